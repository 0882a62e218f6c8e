//! Parts that the fuzz targets share: the form of their inputs, and streams in pieces.

/// An input of most targets: four bytes that say what is done, and the bytes that it is done with.
///
/// Text can be written by hand: in `0ab GET / HTTP/1.1` the digit holds the flags, and the letters are long pieces.
pub struct Input<'i> {
    /// Choices; a target says what each bit means.
    pub flags: u8,
    /// Lengths of the pieces in which the bytes come, over and over; 0 stands for all the rest.
    pub plan: [u8; 3],
    /// The bytes.
    pub bytes: &'i [u8],
}

impl<'i> Input<'i> {
    /// Reads an input; `None` where it is too short.
    pub fn read(input: &'i [u8]) -> Option<Self> {
        let ([flags, plan @ ..], bytes) = input.split_first_chunk::<4>()?;
        Some(Self { flags: *flags, plan: *plan, bytes })
    }

    /// Tells if a flag is set.
    pub fn flag(&self, bit: u8) -> bool {
        self.flags >> bit & 1 == 1
    }

    /// The bytes in pieces.
    pub fn pieces(&self) -> Vec<&'i [u8]> {
        pieces(self.bytes, self.plan)
    }

    /// The pieces, each with all that came before it.
    pub fn growing(&self) -> impl Iterator<Item = &'i [u8]> {
        let bytes = self.bytes;
        self.pieces()
            .into_iter()
            .scan(0, |length, piece| {
                *length += piece.len();
                Some(*length)
            })
            .map(move |length| &bytes[..length])
    }
}

/// Some bytes in pieces of the planned lengths, over and over; 0 stands for all the rest.
pub fn pieces(mut bytes: &[u8], plan: [u8; 3]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut lengths = plan.iter().cycle();
    while !bytes.is_empty() {
        let length = match lengths.next() {
            None | Some(0) => bytes.len(),
            Some(length) => usize::from(*length).min(bytes.len()),
        };
        let (piece, rest) = bytes.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
