//! `CreateUser`: what the handler does with a user, whichever type it was decoded into.

use prost::Message;

use crate::steps::Pooled;
use crate::subject::pb::owned::User;

/// Bytes that hold a user message and its prefix: the size of small codec buffers.
pub const USER_BUFFER_BYTES: usize = 256;

/// What the handler sets of a user: its id,
pub const CREATED_ID: u64 = 4242;
/// the second it was created,
pub const CREATED_AT: u64 = 1_735_689_600;
/// and its status.
pub const CREATED_STATUS: &str = "active";

/// A received user that can be answered with.
pub trait UnaryRecord: Message + Default + Clone + 'static {
    /// What the handler does: the record as it would be stored.
    fn create(&mut self);

    /// Whether this is what [`create`](UnaryRecord::create) made: how a client checks an answer.
    fn is_created(&self) -> bool;
}

impl UnaryRecord for User {
    fn create(&mut self) {
        self.id = CREATED_ID;
        self.created_at = CREATED_AT;
        self.status.clear();
        self.status.push_str(CREATED_STATUS);
    }

    fn is_created(&self) -> bool {
        self.id == CREATED_ID && self.created_at == CREATED_AT && self.status == CREATED_STATUS
    }
}

impl UnaryRecord for Pooled<User> {
    fn create(&mut self) {
        (**self).create();
    }

    fn is_created(&self) -> bool {
        (**self).is_created()
    }
}

/// The user every call sends.
pub fn sample_user() -> User {
    User {
        id: 0,
        name: "Ada Lovelace".to_owned(),
        age: 36,
        paid_plan: true,
        created_at: 0,
        status: "pending".to_owned(),
        subscriptions: ["newsletter", "releases", "security"].map(str::to_owned).to_vec(),
        email: "ada.lovelace@example.org".to_owned(),
    }
}
