//! HTTP/2: the preface, frame headers, and the sizes that are announced where nobody says otherwise.

/// What a client sends before its first frame. RFC 9113, section 3.4.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header: length (3), type (1), flags (1), stream (4). RFC 9113, section 4.1.
pub const HEADER_BYTES: usize = 9;

/// The frame type that carries payload. RFC 9113, section 6.1.
pub const DATA: u8 = 0;
/// The frame type that begins a block of headers. RFC 9113, section 6.2.
pub const HEADERS: u8 = 1;
/// The frame type that each side begins with. RFC 9113, section 6.5.
pub const SETTINGS: u8 = 4;
/// Bytes of one setting: identifier (2), value (4). RFC 9113, section 6.5.1.
pub const SETTING_BYTES: usize = 6;
/// The frame type that announces a pushed stream, with headers. RFC 9113, section 6.6.
pub const PUSH_PROMISE: u8 = 5;
/// The frame type that gives credit to a sender. RFC 9113, section 6.9.
pub const WINDOW_UPDATE: u8 = 8;
/// The frame type that continues a block of headers. RFC 9113, section 6.10.
pub const CONTINUATION: u8 = 9;
/// A frame type that RFC 9113 does not define, which every endpoint ignores (section 5.5).
pub const UNKNOWN: u8 = 0xFF;

/// The largest frame payload a connection begins with, and the smallest limit it may announce. RFC 9113, section 6.5.2.
pub const FRAME_BYTES_DEFAULT: u32 = 1 << 14;
/// The largest frame payload there is. RFC 9113, section 4.2.
pub const FRAME_BYTES_MAX: u32 = (1 << 24) - 1;
/// The window of a stream and of the connection where nothing is announced. RFC 9113, section 6.9.2.
pub const WINDOW_BYTES_DEFAULT: u32 = (1 << 16) - 1;
/// The largest window there is. RFC 9113, section 6.9.1.
pub const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// What hyper announces where nothing is set (`DEFAULT_*` of its `proto::h2::client` and `proto::h2::server`).
pub mod hyper {
    /// A client's window of each stream, bytes.
    pub const CLIENT_STREAM_WINDOW: u32 = 2 << 20;
    /// A client's window of the connection, bytes.
    pub const CLIENT_CONNECTION_WINDOW: u32 = 5 << 20;
    /// A server's windows of each stream and of the connection, bytes.
    pub const SERVER_WINDOW: u32 = 1 << 20;
    /// The largest block of headers that either side takes, bytes.
    pub const HEADER_LIST_MAX: u32 = 16 << 10;
    /// Streams that a server lets a client have open at once.
    pub const SERVER_STREAMS_MAX: u32 = 200;
}

/// What stands before each frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload; below 2^24.
    pub len: usize,
    /// The frame type: [`DATA`], [`HEADERS`], …
    pub kind: u8,
    /// Flags, whose meaning is the type's.
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// The header in these bytes. Every nine bytes are one.
    pub const fn read(bytes: &[u8; HEADER_BYTES]) -> FrameHeader {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes;
        let len = u32::from_be_bytes([0, high, middle, low]) as usize;
        // The first bit is reserved.
        FrameHeader { len, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) }
    }

    /// The header as it is sent.
    pub const fn write(self) -> [u8; HEADER_BYTES] {
        let [_, high, middle, low] = (self.len as u32).to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = FrameHeader { len: 0x01_02_03, kind: HEADERS, flags: 4, stream: 0x7F_00_00_01 };
        assert_eq!(header.write(), [1, 2, 3, 1, 4, 0x7F, 0, 0, 1]);
        assert_eq!(FrameHeader::read(&header.write()), header);
        let mut reserved = header.write();
        reserved[5] |= 0x80;
        assert_eq!(FrameHeader::read(&reserved), header);
    }
}
