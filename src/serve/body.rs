//! Bodies of requests, with a bound for all that are read at a time: there may be many clients, and
//! slow ones.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, HttpBody as _};

/// Bytes that are left for bodies.
pub struct Room(AtomicUsize);

impl Room {
    pub fn new(bytes: usize) -> Self {
        Room(AtomicUsize::new(bytes))
    }
}

/// A part of the room, until it is dropped.
struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Taken<'_> {
    /// Takes more, where there is as much.
    fn more(&mut self, bytes: usize) -> bool {
        let taken = self.room.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes));
        self.bytes += if taken.is_ok() { bytes } else { 0 };
        taken.is_ok()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooLarge,
    CutOff,
    /// Other bodies leave no room for it.
    NoRoom,
}

/// Reads a body of at most `most` bytes, and gives what `then` makes of it. Its bytes count in
/// `room` until then.
pub async fn read<T>(body: Body, most: usize, room: &Room, then: impl FnOnce(&[u8]) -> T) -> Result<T, Fault> {
    if body.size_hint().lower() > most as u64 {
        return Err(Fault::TooLarge);
    }
    let mut body = pin!(body);
    let (mut taken, mut all) = (Taken { room, bytes: 0 }, Vec::new());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Fault::CutOff)?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(Fault::TooLarge);
        }
        if !taken.more(data.len()) {
            return Err(Fault::NoRoom);
        }
        all.extend_from_slice(&data);
    }
    Ok(then(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_a_room_and_give_it_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let room = Room::new(10);
            let length = |bytes: &[u8]| bytes.len();
            assert_eq!(read(Body::from("12345678"), 8, &room, length).await, Ok(8));
            assert_eq!(read(Body::from("123456789"), 8, &room, length).await, Err(Fault::TooLarge));
            // what is left while another is held
            let mut other = Taken { room: &room, bytes: 0 };
            assert!(other.more(6) && !other.more(5));
            assert_eq!(read(Body::from("12345"), 8, &room, length).await, Err(Fault::NoRoom));
            assert_eq!(read(Body::from("1234"), 8, &room, length).await, Ok(4));
            drop(other);
            assert_eq!(room.0.load(Ordering::Relaxed), 10);
        });
    }
}
