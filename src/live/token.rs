//! The secret that readers of the endpoints share with the program, where it has one.

use std::path::Path;

use subtle::ConstantTimeEq;

/// The environment variable that may hold the token.
pub const TOKEN: &str = "ALLOC_LADDER_LIVE_TOKEN";
/// The environment variable that may name a file that holds it.
pub const TOKEN_FILE: &str = "ALLOC_LADDER_LIVE_TOKEN_FILE";

/// Bytes of the longest token.
const BYTES_MAX: usize = 256;
/// What stands before it in a header.
const SCHEME: &[u8] = b"Bearer ";

/// A bearer token: one line of visible ASCII. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// Not one line of visible ASCII of at most 256 bytes, without spaces.
    #[error(
        "{0} holds no token: one line of visible ASCII without spaces, of at most 256 bytes (openssl rand -hex 32)"
    )]
    Text(String),
    /// The file cannot be read.
    #[error("cannot read the token in {0}: {1}")]
    File(String, #[source] std::io::Error),
}

impl Token {
    /// The token `text`.
    ///
    /// # Errors
    /// [`BadToken::Text`].
    pub fn new(text: &str) -> Result<Token, BadToken> {
        Token::parse(text, "the text")
    }

    /// The token in a file, which may end with a line feed.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn from_file(file: &Path) -> Result<Token, BadToken> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| BadToken::File(name.clone(), error))?;
        Token::parse(text.trim_end_matches(['\r', '\n']), &name)
    }

    /// The token in the environment, in [`TOKEN`] or else in the file that [`TOKEN_FILE`] names; `None` where neither is
    /// set.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn from_environment() -> Result<Option<Token>, BadToken> {
        if let Some(text) = std::env::var_os(TOKEN) {
            return Token::parse(&text.to_string_lossy(), TOKEN).map(Some);
        }
        std::env::var_os(TOKEN_FILE).map(|file| Token::from_file(Path::new(&file))).transpose()
    }

    fn parse(text: &str, place: &str) -> Result<Token, BadToken> {
        let is_token = (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token {
            return Err(BadToken::Text(place.to_owned()));
        }
        Ok(Token::padded(text.as_bytes()))
    }

    fn padded(text: &[u8]) -> Token {
        let mut bytes = [0; BYTES_MAX];
        let len = text.len();
        let kept = len.min(BYTES_MAX);
        bytes[..kept].copy_from_slice(&text[..kept]);
        Token { bytes, len }
    }

    /// Whether a request that carries these values of `authorization` knows the token. It takes the same time whatever was
    /// sent and however much of it is right.
    pub(super) fn admits<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut values = values.into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some(sent) = value.strip_prefix(SCHEME) else { return false };
        let sent = Token::padded(sent);
        (self.bytes.ct_eq(&sent.bytes) & (self.len as u64).ct_eq(&(sent.len as u64))).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::new("s3cret").expect("a token");
        assert!(token.admits([&b"Bearer s3cret"[..]]));
        for wrong in
            ["s3cret", "Bearer s3cre", "Bearer s3cret2", "Bearer S3cret", "Bearer s3cret\0", "Basic s3cret", ""]
        {
            assert!(!token.admits([wrong.as_bytes()]), "{wrong}");
        }
        assert!(!token.admits([]));
        assert!(!token.admits([&b"Bearer s3cret"[..], b"Bearer s3cret"]), "twice is not once");
        let longest = "x".repeat(BYTES_MAX);
        let token = Token::new(&longest).expect("a token");
        assert!(token.admits([format!("Bearer {longest}").as_bytes()]));
        assert!(!token.admits([format!("Bearer {longest}x").as_bytes()]));
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_token_is_one_line_that_can_be_sent() {
        for bad in ["", "two words", "two\nlines", "ünsichtbar", "\u{1b}[2J", &"x".repeat(BYTES_MAX + 1)] {
            let error = Token::new(bad).expect_err(bad);
            assert!(!error.to_string().contains("words"), "the token is not told: {error}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("token");
        assert!(matches!(Token::from_file(&file), Err(BadToken::File(..))));
        std::fs::write(&file, "s3cret\r\n").expect("writes");
        assert_eq!(Token::from_file(&file).expect("a token"), Token::new("s3cret").expect("a token"));
    }
}
