use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use std::mem;

/// The frames that have been sent, up to a cap.
#[derive(Debug)]
pub(super) struct Record {
    frames: Vec<Recorded>,
    /// Bytes of data, for the length of a replay.
    data: u64,
    /// Bytes of data and of trailers, against the cap.
    cost: usize,
    cap: usize,
    has_trailers: bool,
    lost: bool,
}

#[derive(Debug)]
enum Recorded {
    Data(Bytes),
    /// Boxed, because few bodies have trailers and a `HeaderMap` would make every frame larger.
    Trailers(Box<HeaderMap>),
}

impl Record {
    pub(super) const fn new(cap: usize) -> Self {
        Self {
            frames: Vec::new(),
            data: 0,
            cost: 0,
            cap,
            has_trailers: false,
            lost: false,
        }
    }

    /// Keeps a copy of this frame if there is room for it. Returns whether there is.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        // The number of frames is limited too, so that a body of tiny frames cannot take much more
        // memory than the cap. A body of frames of 64 bytes and more never reaches this limit.
        let full = self.lost || self.frames.len() >= 16 + self.cap / 64;
        let (recorded, cost) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => (Recorded::Data(data.clone()), data.len()),
            (None, Some(trailers)) => {
                let fields = trailers.iter();
                let cost = fields.map(|(name, value)| name.as_str().len() + value.len());
                let cost = cost.sum();
                if full || cost > self.cap - self.cost {
                    return false;
                }
                (Recorded::Trailers(Box::new(trailers.clone())), cost)
            }
            // An unknown kind of frame cannot be sent again.
            (None, None) => return false,
        };
        if full || cost > self.cap - self.cost {
            return false;
        }
        match &recorded {
            Recorded::Data(data) => self.data += data.len() as u64,
            Recorded::Trailers(_) => self.has_trailers = true,
        }
        self.cost += cost;
        self.frames.push(recorded);
        true
    }

    pub(super) fn get(&self, position: usize) -> Option<Frame<Bytes>> {
        Some(match self.frames.get(position)? {
            Recorded::Data(data) => Frame::data(data.clone()),
            Recorded::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) const fn data(&self) -> u64 {
        self.data
    }

    pub(super) const fn has_trailers(&self) -> bool {
        self.has_trailers
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Frees the record for good: the body cannot be replayed.
    pub(super) fn lose(&mut self) {
        drop(mem::take(&mut self.frames));
        self.data = 0;
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![0; len]))
    }

    #[test]
    fn the_cap_is_the_last_byte_that_fits() {
        let mut record = Record::new(5);
        assert!(record.push(&data(3)));
        assert!(!record.push(&data(3)));
        assert!(record.push(&data(2)));
        assert!(!record.push(&data(1)));
        assert_eq!((record.len(), record.data()), (2, 5));
    }

    #[test]
    fn tiny_frames_and_trailers_count_too() {
        let mut record = Record::new(64 << 10);
        let kept = (0..64 << 10).filter(|_| record.push(&data(1))).count();
        assert_eq!(kept, 16 + 1024);

        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let trailers = Frame::trailers(trailers);
        assert!(!Record::new(11).push(&trailers));
        let mut record = Record::new(12);
        assert!(record.push(&trailers));
        assert_eq!(record.data(), 0);
        assert!(!record.push(&data(1)));
    }

    #[test]
    fn what_is_lost_is_freed_and_stays_lost() {
        let payload = Bytes::from(vec![0; 8]);
        let mut record = Record::new(8);
        assert!(record.push(&Frame::data(payload.clone())));
        assert!(!payload.is_unique());
        record.lose();
        assert!(payload.is_unique());
        assert!(!record.push(&data(1)));
        assert_eq!((record.len(), record.data()), (0, 0));
    }
}
