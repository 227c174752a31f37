//! One header block: decoded with the connection's table, given a readable authority, encoded without any table.

use axum::http::uri::Authority;
use fluke_hpack::Decoder;
use fluke_hpack::encoder::encode_integer;

use super::Malformed;

/// SETTINGS_HEADER_TABLE_SIZE of the server, which keeps to the default (RFC 9113, section 6.5.2).
const TABLE_BYTES: usize = 4096;

/// Names and values of one block, decoded. A few encoded bytes can refer to long entries of the table many times.
const MAX_LIST_BYTES: usize = 32 * 1024;

/// Fields of one block. A gRPC call has about ten; each Huffman string makes the decoder build its code table.
const MAX_FIELDS: usize = 128;

/// What stands for an authority that is none; the form that clients with a `unix:` target send.
const LOCALHOST: &[u8] = b"localhost";

/// First byte of such a field whose name is a string (RFC 7541, section 6.2.2).
const LITERAL_WITHOUT_INDEXING: u8 = 0;

/// The decoder of one connection.
pub(super) struct HeaderRewriter {
    decoder: Decoder<'static>,
}

impl HeaderRewriter {
    pub(super) fn new() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_BYTES);
        Self { decoder }
    }

    /// Decodes a block and encodes it as literals without indexing.
    ///
    /// # Errors
    /// [`Malformed`]; the table may be out of step then, so that the connection must end.
    pub(super) fn rewrite(&mut self, block: &[u8]) -> Result<Vec<u8>, Malformed> {
        if count_fields(block)? > MAX_FIELDS {
            return Err(Malformed::ListTooLarge { bytes: MAX_LIST_BYTES, fields: MAX_FIELDS });
        }
        let mut encoded = Vec::with_capacity(block.len().saturating_mul(2));
        let mut list_bytes: usize = 0;
        let decoded = self.decoder.decode_with_cb(block, |name, value| {
            list_bytes = list_bytes.saturating_add(name.len()).saturating_add(value.len());
            if list_bytes <= MAX_LIST_BYTES {
                encoded.push(LITERAL_WITHOUT_INDEXING);
                put_string(&name, &mut encoded);
                put_string(readable(&name, &value), &mut encoded);
            }
        });
        decoded.map_err(|error| Malformed::Compression { detail: format!("{error:?}") })?;
        if list_bytes > MAX_LIST_BYTES {
            return Err(Malformed::ListTooLarge { bytes: MAX_LIST_BYTES, fields: MAX_FIELDS });
        }
        Ok(encoded)
    }
}

/// The value, or `localhost` for an authority that the server's library would refuse.
fn readable<'a>(name: &[u8], value: &'a [u8]) -> &'a [u8] {
    if name == b":authority" && Authority::try_from(value).is_err() { LOCALHOST } else { value }
}

/// Length and bytes, without Huffman code.
fn put_string(bytes: &[u8], encoded: &mut Vec<u8>) {
    encoded.extend_from_slice(&encode_integer(bytes.len(), 7));
    encoded.extend_from_slice(bytes);
}

/// Walks the representations of a block (RFC 7541, section 6) and counts them, size updates included.
///
/// The decoder trusts some lengths that it should not; after this walk none reaches beyond the block.
///
/// # Errors
/// [`Malformed::CutShort`] or [`Malformed::Compression`].
fn count_fields(block: &[u8]) -> Result<usize, Malformed> {
    let mut rest = block;
    let mut fields = 0;
    while let Some(first) = rest.first() {
        let (prefix_bits, literal) = match first.leading_zeros() {
            0 => (7, false),
            1 => (6, true),
            2 => (5, false),
            _ => (4, true),
        };
        let (index, after) = take_integer(rest, prefix_bits)?;
        rest = after;
        if literal {
            if index == 0 {
                rest = skip_string(rest)?;
            }
            rest = skip_string(rest)?;
        }
        fields += 1;
    }
    Ok(fields)
}

fn skip_string(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let (length, rest) = take_integer(bytes, 7)?;
    rest.get(length..).ok_or(Malformed::CutShort)
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1), of at most five bytes, as the decoder has it.
fn take_integer(bytes: &[u8], prefix_bits: u32) -> Result<(usize, &[u8]), Malformed> {
    let (first, mut rest) = bytes.split_first().ok_or(Malformed::CutShort)?;
    let mask = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value < mask {
        return Ok((value, rest));
    }
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first().ok_or(Malformed::CutShort)?;
        rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(Malformed::Compression { detail: "an integer of more than five bytes".to_owned() })
}
