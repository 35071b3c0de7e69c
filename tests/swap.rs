//! The swapped codec and prost say the same on the wire, both ways, whatever a user looks like.

#![cfg(feature = "subject")]

use alloc_ladder::subject::codec::ProstCodec;
use alloc_ladder::subject::pb::owned::User;
use alloc_ladder::subject::swap::SwapUser;
use alloc_ladder::subject::user::UnaryRecord;
use bytes::{Buf, Bytes};
use proptest::prelude::*;
use prost::Message;

prop_compose! {
    /// Any user; about half of the fields absent, which in proto3 is the same as zero or empty.
    fn user()(
        (id, age, created_at) in (number(), number(), number()),
        paid_plan: bool,
        (name, status, email) in (text(), text(), text()),
        subscriptions in prop::collection::vec(text(), 0..8),
    ) -> User {
        User { id, name, age, paid_plan, created_at, status, subscriptions, email }
    }
}

/// Every length of varint is as likely as any other.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (0u32..64).prop_flat_map(|bits| 0..=u64::MAX >> bits)]
}

/// Any text, and now and then one whose length takes two bytes to say.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 4 => any::<String>(), 1 => "[a-zß]{120,300}"]
}

/// A field that `User` does not have, encoded: any number from 9 on, any wire type but groups.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        number().prop_map(|value| (0, varint(value))),
        any::<[u8; 8]>().prop_map(|value| (1, value.to_vec())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|value| (2, [varint(value.len() as u64), value].concat())),
        any::<[u8; 4]>().prop_map(|value| (5, value.to_vec())),
    ];
    (9u64..1 << 29, value).prop_map(|(field, (wire, value))| [varint(field << 3 | wire), value].concat())
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

fn swapped(bytes: impl Into<Bytes>) -> SwapUser {
    SwapUser::decode(bytes.into()).expect("it decodes")
}

fn encoded(user: &SwapUser) -> Vec<u8> {
    let mut bytes = Vec::new();
    user.encode_raw(&mut bytes);
    assert_eq!(bytes.len(), user.encoded_len(), "the length it says is the length it writes");
    bytes
}

/// The fields as the swapped codec read them.
fn fields(user: &SwapUser) -> User {
    let view = user.received();
    User {
        id: view.id,
        name: view.name.to_owned(),
        age: view.age,
        paid_plan: view.paid_plan,
        created_at: view.created_at,
        status: view.status.to_owned(),
        subscriptions: view.subscriptions.iter().map(|text| (*text).to_owned()).collect(),
        email: view.email.to_owned(),
    }
}

/// What tonic asks of a codec and its messages.
#[test]
fn it_fits_where_a_codec_is_asked_for() {
    fn fits<C: tonic::codec::Codec<Encode = SwapUser, Decode = SwapUser> + Sync>(_: C)
    where
        SwapUser: Send + Sync + 'static,
    {
    }
    fits(ProstCodec::<SwapUser, SwapUser>::stock());
}

proptest! {
    #[test]
    fn what_one_writes_the_other_reads_and_writes_again_byte_for_byte(user in user()) {
        let bytes = user.encode_to_vec();
        let view = swapped(bytes.clone());
        prop_assert_eq!(&fields(&view), &user);
        prop_assert_eq!(&encoded(&view), &bytes);
        prop_assert_eq!(User::decode(encoded(&view).as_slice()).expect("prost reads it"), user);
    }

    #[test]
    fn the_handler_leaves_the_same_user_behind_in_either(mut user in user()) {
        let mut view = SwapUser::from(&user);
        view.create();
        user.create();
        prop_assert_eq!(encoded(&view), user.encode_to_vec());
        prop_assert_eq!((view.id(), view.status()), (user.id, user.status.as_str()));
        prop_assert_eq!(view.created_at(), user.created_at);
        prop_assert_eq!(view.encoded_len(), user.encoded_len());
    }

    #[test]
    fn unknown_fields_change_no_known_one_and_are_passed_on(
        user in user(),
        unknown in prop::collection::vec(unknown_field(), 1..5),
        first: bool,
    ) {
        let (known, unknown) = (user.encode_to_vec(), unknown.concat());
        let bytes = if first { [unknown.clone(), known.clone()].concat() } else { [known.clone(), unknown.clone()].concat() };
        let view = swapped(bytes.clone());
        prop_assert_eq!(&fields(&view), &user);
        prop_assert_eq!(User::decode(bytes.as_slice()).expect("prost reads it"), user);
        // buffa writes unknown fields behind the known ones.
        prop_assert_eq!(encoded(&view), [known, unknown].concat());
    }

    #[test]
    fn a_field_that_comes_twice_is_merged_alike(one in user(), two in user()) {
        let bytes = [one.encode_to_vec(), two.encode_to_vec()].concat();
        let merged = User::decode(bytes.as_slice()).expect("prost reads it");
        prop_assert_eq!(fields(&swapped(bytes)), merged);
    }

    #[test]
    fn both_refuse_what_is_cut_short(user in user(), cut: prop::sample::Index) {
        let bytes = user.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let cut = &bytes[..cut.index(bytes.len())];
        let view = SwapUser::decode(Bytes::copy_from_slice(cut));
        match User::decode(cut) {
            Ok(user) => prop_assert_eq!(fields(&view.expect("prost reads it")), user),
            Err(_) => prop_assert!(view.is_err()),
        }
    }

    #[test]
    fn any_bytes_are_read_alike_or_refused_by_both(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let view = SwapUser::decode(Bytes::from(bytes.clone()));
        match (User::decode(bytes.as_slice()), view) {
            (Ok(user), Ok(view)) => prop_assert_eq!(fields(&view), user),
            (Err(_), Err(_)) => {}
            (prost, view) => prop_assert!(false, "prost: {prost:?}, swapped: {view:?}"),
        }
    }

    #[test]
    fn messages_are_merged_alike(one in user(), two in user()) {
        let mut merged = one.clone();
        merged.merge(two.encode_to_vec().as_slice()).expect("prost reads what it wrote");
        let mut view = SwapUser::from(&one);
        view.merge(two.encode_to_vec().as_slice()).expect("as prost does");
        prop_assert_eq!(fields(&view), merged);
        view.clear();
        prop_assert_eq!(fields(&view), User::default());
    }

    #[test]
    fn a_message_that_lies_in_two_pieces_is_read_the_same(user in user(), at: prop::sample::Index) {
        let bytes = Bytes::from(user.encode_to_vec());
        let at = at.index(bytes.len() + 1);
        let view = <SwapUser as Message>::decode(bytes.slice(..at).chain(bytes.slice(at..)));
        prop_assert_eq!(fields(&view.expect("it decodes")), user);
    }
}
