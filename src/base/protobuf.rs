//! Messages written as protocol buffers, as ONNX and TensorBoard take them: a field is its number and type as one varint, then
//! a varint, four or eight bytes, or a length and bytes.

/// A message in the making.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An integer.
    pub fn integer(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// A 32-bit number.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.varint(u64::from(field) << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A 64-bit number.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.varint(u64::from(field) << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes, a string, or another message.
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A string of each of them.
    pub fn each<T: AsRef<[u8]>>(self, field: u32, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, |message, value| message.bytes(field, value))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protobuf_says() {
        let inner = Message::default().integer(1, 150);
        assert_eq!(inner.as_ref(), [0x08, 0x96, 0x01]);
        let outer = Message::default().bytes(3, inner).bytes(2, "testing").float(2, 1.0).integer(1, -1);
        let mut wanted = vec![0x1a, 3, 0x08, 0x96, 0x01, 0x12, 7];
        wanted.extend(b"testing");
        wanted.extend([0x15, 0, 0, 0x80, 0x3f, 0x08]);
        wanted.extend([0xff; 9]);
        wanted.push(1);
        assert_eq!(outer.as_ref(), wanted);
        assert_eq!(Message::default().double(1, 1.0).as_ref(), [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }
}
