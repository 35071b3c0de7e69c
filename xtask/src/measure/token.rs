//! The secret that a client and an agent share: who has it may have servers built and run.

use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};

use crate::cli::failure::{Failure, Kind};

/// The environment variable that may hold it. Nothing that is started inherits it.
pub(crate) const VARIABLE: &str = "ALLOC_LADDER_TOKEN";

/// The metadata key it travels under.
pub(crate) const HEADER: &str = "authorization";

/// A token, which is never printed.
#[derive(Clone)]
pub(crate) struct Token(MetadataValue<Ascii>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in `file`, or else in the environment; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a file that cannot be read, and for what is not a token.
    pub(crate) fn find(file: Option<&Path>) -> anyhow::Result<Option<Token>> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| Failure::new(Kind::Usage, format!("cannot read the token in {}", file.display())))?,
            None => match std::env::var_os(VARIABLE) {
                Some(text) => text.to_string_lossy().into_owned(),
                None => return Ok(None),
            },
        };
        let place = file.map_or_else(|| VARIABLE.to_owned(), |file| file.display().to_string());
        Token::parse(text.trim_end_matches(['\r', '\n']), &place).map(Some)
    }

    fn parse(text: &str, place: &str) -> anyhow::Result<Token> {
        let value = Some(text).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
        let value = value.and_then(|text| MetadataValue::try_from(format!("Bearer {text}")).ok());
        let mut value = value.ok_or_else(|| {
            Failure::new(Kind::Usage, format!("{place} holds no token: one line of visible ASCII without spaces"))
                .help("make one with `openssl rand -hex 32`")
        })?;
        value.set_sensitive(true);
        Ok(Token(value))
    }

    /// As it travels.
    pub(crate) fn header(&self) -> MetadataValue<Ascii> {
        self.0.clone()
    }

    /// Whether this is what somebody sent. It takes the same time whatever was sent and however much of it is right.
    pub(crate) fn is(&self, sent: Option<&MetadataValue<Ascii>>) -> bool {
        let digest = |value: &[u8]| Sha256::digest(value);
        let sent = digest(sent.map_or(&[][..], |value| value.as_encoded_bytes()));
        digest(self.0.as_encoded_bytes()).ct_eq(&sent).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::parse("s3cret", "file").expect("a token");
        assert!(token.is(Some(&token.header())));
        assert!(!token.is(None));
        for wrong in ["s3cret", "Bearer s3cre", "Bearer s3cret2", "Bearer S3cret", "bearer s3cret", ""] {
            assert!(!token.is(Some(&MetadataValue::try_from(wrong).expect("a value"))), "{wrong}");
        }
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token Sensitive");
    }

    #[test]
    fn a_token_is_one_line_that_can_be_sent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("token");
        let found = |text: &str| {
            std::fs::write(&file, text).expect("writes");
            Token::find(Some(&file))
        };
        assert!(found("s3cret\n").expect("a token").expect("one").is(Some(&"Bearer s3cret".parse().expect("a value"))));
        for bad in ["", "\n", "two words", "two\nlines", "ünsichtbar", "\u{1b}[2J"] {
            let error = found(bad).expect_err(bad);
            assert!(!error.to_string().contains("words"), "the token is not told: {error}");
        }
        assert!(Token::find(Some(&folder.path().join("none"))).is_err());
    }
}
