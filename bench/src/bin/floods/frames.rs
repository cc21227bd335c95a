//! Frames of HTTP/2, by hand: what no client library sends.

/// The preface, and settings without content.
pub const BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A frame's header.
pub const HEADER_BYTES: usize = 9;

/// Types of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("below 16 MiB").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, without any compression.
pub fn call(path: &str, key: Option<&str>) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        [&[length.expect("short")][..], text.as_bytes()].concat()
    };
    // POST, and http, of the table that both sides have; then names of it, or new ones.
    let mut block = vec![0x83, 0x86];
    block.push(0x04);
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("localhost"));
    block.extend([0x0f, 0x10]);
    block.extend(text("application/grpc"));
    block.push(0x00);
    block.extend([text("te"), text("trailers")].concat());
    if let Some(key) = key {
        // Never to be indexed.
        block.extend([0x1f, 0x08]);
        block.extend(text(&format!("Bearer {key}")));
    }
    block
}
