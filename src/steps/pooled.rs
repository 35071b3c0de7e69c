//! A message that comes out of its thread's free list, and goes to one when it is dropped.
//!
//! Decoding into a recycled message uses the memory of its strings, vectors and nested messages again. Not for messages
//! with `Bytes` fields: there is nothing to recycle in them.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// How many messages of a type a thread keeps.
pub const MESSAGES_MAX: usize = 16;
/// How many encoded bytes the kept messages of a type had at most, together: one that was longer is freed.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

thread_local! {
    /// A list per type; a service has few.
    static FREE: RefCell<Vec<(TypeId, Box<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// `M` out of a free list. Itself a prost message, so that any codec and generated code take it; the build script's
/// generator writes it into a service's signatures: `.pooled(".package.Message")`.
///
/// ```
/// use alloc_ladder::steps::Pooled;
/// use prost::Message;
///
/// let encoded = "a name".to_owned().encode_to_vec();
/// let name = Pooled::<String>::decode(&encoded[..])?;
/// assert_eq!(*name, "a name");
/// # Ok::<(), prost::DecodeError>(())
/// ```
pub struct Pooled<M: Message + Default + 'static> {
    message: M,
    /// The most encoded bytes it has had: what its memory is judged by.
    most: usize,
}

/// The free messages of a type, with [`Pooled::most`] of each.
struct Free<M> {
    messages: Vec<(M, usize)>,
    bytes: usize,
}

/// Lends the list of a type; `None` where the thread ends, or the list is in use: a field of a message that is dropped by
/// the list itself.
fn with_free<M: 'static, R>(act: impl FnOnce(&mut Free<M>) -> R) -> Option<R> {
    let act = |free: &RefCell<Vec<(TypeId, Box<dyn Any>)>>| {
        let mut free = free.try_borrow_mut().ok()?;
        let id = TypeId::of::<M>();
        let index = free.iter().position(|(of, _)| *of == id).unwrap_or_else(|| {
            free.push((id, Box::new(Free::<M> { messages: Vec::with_capacity(MESSAGES_MAX), bytes: 0 })));
            free.len() - 1
        });
        free[index].1.downcast_mut::<Free<M>>().map(act)
    };
    FREE.try_with(act).ok().flatten()
}

/// How many messages of the type this thread keeps.
pub fn kept<M: 'static>() -> usize {
    with_free::<M, _>(|free| free.messages.len()).unwrap_or(0)
}

impl<M: Message + Default + 'static> Pooled<M> {
    /// The message itself, which does not go back.
    pub fn into_inner(mut self) -> M {
        std::mem::take(&mut self.message)
    }
}

impl<M: Message + Default + 'static> Default for Pooled<M> {
    /// An empty message, with the memory of one that was dropped.
    fn default() -> Self {
        let recycled = with_free::<M, _>(|free| {
            let (message, most) = free.messages.pop()?;
            free.bytes -= most;
            Some(Pooled { message, most })
        });
        recycled.flatten().unwrap_or_else(|| Pooled { message: M::default(), most: 0 })
    }
}

impl<M: Message + Default + 'static> Drop for Pooled<M> {
    fn drop(&mut self) {
        // No memory of the message is used again while a panic unwinds: who knows what it was in the middle of.
        if std::thread::panicking() {
            return;
        }
        let most = self.most.max(self.message.encoded_len());
        self.message.clear();
        let mut message = Some(std::mem::take(&mut self.message));
        with_free::<M, _>(|free| {
            if free.messages.len() < MESSAGES_MAX && free.bytes + most <= MESSAGE_BYTES_MAX {
                free.bytes += most;
                free.messages.extend(message.take().map(|message| (message, most)));
            }
        });
        // What was not kept is freed here, after the list was lent: its fields may go to the list themselves.
    }
}

impl<M: Message + Default + 'static> From<M> for Pooled<M> {
    fn from(message: M) -> Self {
        Pooled { message, most: 0 }
    }
}

impl<M: Message + Default + 'static> Deref for Pooled<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: Message + Default + 'static> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.message
    }
}

impl<M: Message + Default + Clone + 'static> Clone for Pooled<M> {
    fn clone(&self) -> Self {
        let mut own = Pooled::<M>::default();
        own.message.clone_from(&self.message);
        own
    }
}

impl<M: Message + Default + PartialEq + 'static> PartialEq for Pooled<M> {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl<M: Message + Default + Eq + 'static> Eq for Pooled<M> {}

impl<M: Message + Default + Hash + 'static> Hash for Pooled<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.message.hash(state);
    }
}

impl<M: Message + Default + fmt::Debug + 'static> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

impl<M: Message + Default + 'static> Message for Pooled<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.message.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.message.merge_field(tag, wire_type, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.message.encoded_len()
    }

    fn clear(&mut self) {
        self.most = self.most.max(self.message.encoded_len());
        self.message.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
        #[prost(message, repeated, tag = "2")]
        inner: Vec<Pooled<Text>>,
    }

    fn text(length: usize) -> Vec<u8> {
        Text { text: "x".repeat(length), inner: Vec::new() }.encode_to_vec()
    }

    /// On a thread of its own, whose lists are empty.
    fn alone(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().expect("the thread's assertions hold");
    }

    #[test]
    fn memory_is_used_again_and_shows_nothing_of_the_message_before() {
        alone(|| {
            let first = Pooled::<Text>::decode(&text(50_000)[..]).expect("a message");
            let block = first.text.as_ptr();
            drop(first);
            // One that fails gives its memory back as well.
            assert!(Pooled::<Text>::decode(&text(20_000)[..10_000]).is_err());
            assert_eq!(kept::<Text>(), 1);
            let second = Pooled::<Text>::decode(&text(3)[..]).expect("a message");
            assert_eq!((second.text.as_str(), second.text.as_ptr()), ("xxx", block));
            assert_eq!(kept::<Text>(), 0);
            let inner = second.into_inner();
            assert_eq!(inner.text, "xxx");
            assert_eq!(kept::<Text>(), 1, "an empty one in its place");
            assert_eq!(*Pooled::<Text>::default(), Text::default());
        });
    }

    #[test]
    fn what_a_thread_keeps_is_bounded_by_count_and_by_bytes() {
        alone(|| {
            drop((0..100).map(|_| Pooled::<Text>::default()).collect::<Vec<_>>());
            assert_eq!(kept::<Text>(), MESSAGES_MAX);
        });
        alone(|| {
            let one = text(MESSAGE_BYTES_MAX / 4);
            drop((0..100).map(|_| Pooled::<Text>::decode(&one[..]).expect("a message")).collect::<Vec<_>>());
            assert_eq!(kept::<Text>(), 3, "with what stands before each text");
        });
        alone(|| {
            // One that was long once is judged by that.
            let mut message = Pooled::<Text>::decode(&text(MESSAGE_BYTES_MAX)[..]).expect("a message");
            message.clear();
            drop(message);
            assert_eq!(kept::<Text>(), 0);
        });
    }

    #[test]
    fn a_message_within_its_own_type_and_one_of_another_thread_are_kept_in_bounds() {
        alone(|| {
            let mut outer = Pooled::<Text>::default();
            outer.inner = (0..40).map(|_| Pooled::<Text>::decode(&text(100)[..]).expect("a message")).collect();
            drop(outer);
            assert_eq!(kept::<Text>(), MESSAGES_MAX);
            let far = std::thread::spawn(|| Pooled::<Text>::decode(&text(100)[..]).expect("a message"));
            drop(far.join().expect("no panic"));
            assert_eq!(kept::<Text>(), MESSAGES_MAX);
        });
    }

    #[test]
    fn a_panicking_owner_gives_nothing_back() {
        alone(|| {
            let panicking = std::panic::catch_unwind(|| {
                let _message = Pooled::<Text>::decode(&text(100)[..]).expect("a message");
                panic!("in the middle");
            });
            assert!(panicking.is_err());
            assert_eq!(kept::<Text>(), 0);
        });
    }
}
