//! Cutting a stream into messages: a length, a header that is verified here, and a body.

use arrow_ipc::root_as_message;

/// One message of a stream: its verified header and the bytes that belong to it.
pub(super) struct Message<'a> {
    pub(super) header: arrow_ipc::Message<'a>,
    pub(super) body: &'a [u8],
}

/// Cuts the next message off `rest`; `None` at the end of the stream.
pub(super) fn next_message<'a>(rest: &mut &'a [u8]) -> Result<Option<Message<'a>>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let mut length = take_u32(rest)?;
    if length == u32::MAX {
        length = take_u32(rest)?;
    }
    if length == 0 {
        return if rest.is_empty() {
            Ok(None)
        } else {
            Err(format!(
                "{} bytes follow the end of the Arrow stream; expected none",
                rest.len()
            ))
        };
    }
    let metadata = take(rest, length as usize)?;
    let header = root_as_message(metadata)
        .map_err(|_| "a header is not Arrow IPC; expected an Arrow IPC stream".to_owned())?;
    let body_length = usize::try_from(header.bodyLength())
        .map_err(|_| "a header claims a body of negative length".to_owned())?;
    let body = take(rest, body_length)?;
    Ok(Some(Message { header, body }))
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, String> {
    let bytes = take(rest, 4)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u32::from(byte)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let Some((taken, left)) = rest.split_at_checked(length) else {
        return Err(format!(
            "the Arrow stream is truncated: {length} more bytes expected, {} left",
            rest.len()
        ));
    };
    *rest = left;
    Ok(taken)
}
