//! Image files that encoders do not write: PNGs of every kind, byte by byte, and a CMYK JPEG.

/// A PNG that holds exactly this.
#[derive(Clone)]
pub struct Png<'a> {
    pub width: u32,
    pub height: u32,
    pub bits: u8,
    /// 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha.
    pub colour: u8,
    pub interlaced: bool,
    /// Chunks between header and data.
    pub chunks: Vec<([u8; 4], Vec<u8>)>,
    /// Filter byte and values of every row.
    pub rows: &'a [u8],
}

impl<'a> Png<'a> {
    pub fn gray(width: u32, height: u32, bits: u8, rows: &'a [u8]) -> Self {
        Self { width, height, bits, colour: 0, interlaced: false, chunks: Vec::new(), rows }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut header = [self.width.to_be_bytes(), self.height.to_be_bytes()].concat();
        header.extend([self.bits, self.colour, 0, 0, u8::from(self.interlaced)]);
        chunk(&mut file, b"IHDR", &header);
        for (kind, content) in &self.chunks {
            chunk(&mut file, kind, content);
        }
        chunk(&mut file, b"IDAT", &stored(self.rows));
        chunk(&mut file, b"IEND", &[]);
        file
    }
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    file.extend((content.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(content);
    let checksum = crc(&file[start..]);
    file.extend(checksum.to_be_bytes());
}

fn crc(bytes: &[u8]) -> u32 {
    let one = |byte: u32| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 });
    let table: [u32; 256] = std::array::from_fn(|byte| one(byte as u32));
    !bytes.iter().fold(!0, |crc: u32, &byte| table[((crc ^ u32::from(byte)) & 255) as usize] ^ (crc >> 8))
}

/// A zlib stream that compresses nothing.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = bytes.chunks(0xFFFF).count();
    for (number, block) in bytes.chunks(0xFFFF).enumerate() {
        let length = block.len() as u16;
        stream.push(u8::from(number + 1 == blocks));
        stream.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        stream.extend(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for part in bytes.chunks(5000) {
        for &byte in part {
            a += u32::from(byte);
            b += a;
        }
        (a, b) = (a % 65521, b % 65521);
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// Rows of one byte a pixel.
pub fn rows(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    (0..height)
        .flat_map(|y| std::iter::once(0).chain((0..width).map(move |x| (x, y)).map(|(x, y)| value(x, y))))
        .collect()
}

/// The same in the order of an interlaced file (Adam7).
pub fn interlaced_rows(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let mut rows = Vec::new();
    let passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    for (left, top, across, down) in passes {
        for y in (top..height).step_by(down).filter(|_| left < width) {
            rows.push(0);
            rows.extend((left..width).step_by(across).map(|x| value(x, y)));
        }
    }
    rows
}

/// A JPEG of four components as Adobe writes CMYK (inverted: 255 is no ink), in blocks of 8 by 8 equal pixels: no ink
/// but black, so that `black(x, y)`, 0 to 255, is the gray of block x, y.
pub fn cmyk_jpeg(across: u16, down: u16, black: impl Fn(u16, u16) -> u8) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, content: &[u8]| {
        file.extend([0xFF, marker]);
        file.extend((content.len() as u16 + 2).to_be_bytes());
        file.extend(content);
    };
    segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x00"); // the last byte: not transformed
    segment(0xDB, &[&[0][..], &[1; 64]].concat()); // every coefficient as it is
    let [height, width] = [down * 8, across * 8].map(u16::to_be_bytes);
    let components: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
    segment(0xC0, &[&[8], &height[..], &width, &[4], &components].concat());
    // Twelve codes of four bits, for differences of 0 to 11 bits; one of one bit, for "no more coefficients".
    let counts = |bits: usize, count: u8| std::array::from_fn::<u8, 16, _>(|at| if at + 1 == bits { count } else { 0 });
    segment(0xC4, &[&[0x00][..], &counts(4, 12), &(0..12).collect::<Vec<u8>>()].concat());
    segment(0xC4, &[&[0x10][..], &counts(1, 1), &[0]].concat());
    segment(0xDA, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, count: u32| bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    let mut last = [0i32; 4];
    for (x, y) in (0..down).flat_map(|y| (0..across).map(move |x| (x, y))) {
        for (component, last) in last.iter_mut().enumerate() {
            let level = if component == 3 { i32::from(black(x, y)) } else { 255 };
            let difference = (level - 128) * 8 - *last;
            *last += difference;
            let size = 32 - difference.unsigned_abs().leading_zeros();
            put(size, 4);
            put(if difference < 0 { (difference - 1) as u32 } else { difference as u32 }, size);
            put(0, 1);
        }
    }
    for byte in bits.chunks(8) {
        let byte = (0..8).fold(0, |sum, at| sum << 1 | u8::from(*byte.get(at).unwrap_or(&true)));
        file.push(byte);
        if byte == 0xFF {
            file.push(0);
        }
    }
    file.extend([0xFF, 0xD9]);
    file
}
