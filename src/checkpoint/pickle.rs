//! Reads pickles as torch writes them (protocols 2 to 5, the machine of Python's `pickletools`) and executes nothing: what a
//! pickle names is one of a short list of things that hold tensors, or the pickle is refused by that name.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::Dtype;

use super::tensors::MOST_EXTENTS;

/// Longest pickle that is read, in bytes; the numbers of tensors lie outside. Each byte makes at most one object.
const LONGEST: usize = 1 << 23;

/// What is copied from object to object is short, so that a pickle cannot ask for much more memory than it has bytes: the
/// extents of a tensor ([`MOST_EXTENTS`]) and the name of a storage, which is a number.
const LONGEST_KEY: usize = 32;

/// Position of an object in [`Pickle::objects`].
pub type Id = u32;

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    /// `collections.OrderedDict`.
    Dict,
    /// `torch.Size`.
    Size,
    /// `torch._utils._rebuild_tensor_v2`; without that ending before PyTorch 0.4.
    Tensor,
    /// `torch._utils._rebuild_parameter`; the class itself before PyTorch 0.4.
    Parameter,
    /// `torch.FloatStorage` and its like; the type of a storage.
    Storage(Dtype),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::Dict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") | ("torch.nn.parameter", "Parameter") => Self::Parameter,
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            _ => return None,
        })
    }
}

/// Numbers that lie outside the pickle.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Their name there.
    pub key: Box<str>,
    /// Type of the numbers.
    pub dtype: Dtype,
    /// How many there are.
    pub elements: u64,
    /// Those of them that are meant: storages could be parts of others before PyTorch 1.6.
    pub part: Range<u64>,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its storage.
    pub storage: Storage,
    /// Where it begins there, in numbers.
    pub offset: u64,
    /// Extents.
    pub shape: Vec<u64>,
    /// From one to the next along each extent, in numbers.
    pub strides: Vec<u64>,
}

/// An object of a pickle. Containers hold the positions of what is in them, so that cycles do no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `None`, numbers that are no integers, byte strings: nothing that a reader of tensors asks for.
    Other,
    /// An integer; `True` and `False` are 1 and 0.
    Integer(i64),
    /// A string.
    Text(Box<str>),
    /// A tuple, list or set.
    List(Vec<Id>),
    /// Keys and values, in order.
    Dict(Vec<(Id, Id)>),
    /// Something that was named.
    Global(Global),
    /// A storage.
    Storage(Box<Storage>),
    /// A tensor.
    Tensor(Box<View>),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    /// The object at the bottom of everything.
    pub fn root(&self) -> &Object {
        self.get(self.root)
    }

    /// The object at a position; [`Object::Other`] where there is none.
    pub fn get(&self, id: Id) -> &Object {
        object(&self.objects, id)
    }

    /// Keys that are strings, with their values; nothing if it is no dict.
    pub fn entries<'a>(&'a self, dict: &'a Object) -> impl Iterator<Item = (&'a str, &'a Object)> {
        let pairs = if let Object::Dict(pairs) = dict { pairs.as_slice() } else { &[] };
        pairs.iter().filter_map(|&(key, value)| match self.get(key) {
            Object::Text(key) => Some((&**key, self.get(value))),
            _ => None,
        })
    }

    /// The storages that are referred to.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.objects
            .iter()
            .filter_map(|object| if let Object::Storage(storage) = object { Some(&**storage) } else { None })
    }

    /// Reads the pickle that `bytes` begin with. Returns it and its length in bytes.
    ///
    /// # Errors
    /// In words, if it is cut short, damaged, too long, or names what is not on the list.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), String> {
        let within = &bytes[..bytes.len().min(LONGEST)];
        let mut machine = Machine { rest: within, longer: bytes.len() > LONGEST, ..Machine::default() };
        let root = loop {
            if let Some(root) = machine.step()? {
                break root;
            }
        };
        Ok((Self { objects: machine.objects, root }, within.len() - machine.rest.len()))
    }
}

/// The object at a position; [`Object::Other`] where there is none.
fn object(objects: &[Object], id: Id) -> &Object {
    objects.get(id as usize).unwrap_or(&Object::Other)
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    /// Whether there is more than the longest pickle behind.
    longer: bool,
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; the last one gives the root.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [code] = self.take()?;
        match code {
            b'.' if !self.marks.is_empty() => return Err(damaged()),
            b'.' => return self.pop().map(Some),
            0x80 => self.take::<1>().map(drop)?,
            0x95 => self.take::<8>().map(drop)?,
            b'N' => self.push(Object::Other),
            b'G' => {
                self.take::<8>()?;
                self.push(Object::Other);
            }
            b'J' => self.integer(|four| i32::from_le_bytes(four).into())?,
            b'M' => self.integer(|two| u16::from_le_bytes(two).into())?,
            b'K' => self.integer(|[one]| one.into())?,
            0x88 => self.push(Object::Integer(1)),
            0x89 => self.push(Object::Integer(0)),
            0x8a => self.long()?,
            b'X' | b'T' | b'B' | b'U' | 0x8c | b'C' | 0x8d | 0x8e => self.text(code)?,
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' | b')' | 0x8f => self.push(Object::List(Vec::new())),
            b'(' => self.marks.push(self.stack.len()),
            b't' | b'l' | 0x91 => self.gather()?,
            b'd' => self.gather_dict()?,
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b'a' | b'e' | 0x90 => self.append(code == b'a')?,
            b's' | b'u' => self.set(code == b's')?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(code)?,
            b'0' => self.pop().map(drop)?,
            b'1' => self.marked().map(drop)?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'c' | 0x93 => self.global(code == b'c')?,
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.attributes()?,
            other => return Err(format!("its pickle has the instruction {other:#04x}, which torch does not write")),
        }
        Ok(None)
    }

    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], String> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.cut())?;
        self.rest = rest;
        Ok(*head)
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length =
            usize::try_from(length).ok().filter(|&length| length <= self.rest.len()).ok_or_else(|| self.cut())?;
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(head)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.cut())?;
        let line = self.slice(end as u64)?;
        self.take::<1>()?;
        std::str::from_utf8(line).map_err(|_| "its pickle has a name that is not UTF-8".into())
    }

    /// What is wrong where the bytes end before the pickle does.
    fn cut(&self) -> String {
        match self.longer {
            true => format!("its pickle has more than {LONGEST} bytes, which are the limit"),
            false => "its pickle is cut short: fetch it again".into(),
        }
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
    }

    fn pop(&mut self) -> Result<Id, String> {
        // What lies below the last mark belongs to somebody else.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(damaged)
    }

    /// Everything above the last mark, which goes too.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(damaged)?;
        Ok(self.stack.split_off(mark))
    }

    fn integer<const BYTES: usize>(&mut self, number: impl Fn([u8; BYTES]) -> i64) -> Result<(), String> {
        let number = number(self.take()?);
        self.push(Object::Integer(number));
        Ok(())
    }

    /// An integer of so many bytes, little-endian, in two's complement.
    fn long(&mut self) -> Result<(), String> {
        let [length] = self.take()?;
        let bytes = self.slice(length.into())?;
        if bytes.len() > 8 {
            self.push(Object::Other);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut eight = [if negative { 0xff } else { 0 }; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        self.push(Object::Integer(i64::from_le_bytes(eight)));
        Ok(())
    }

    fn text(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'X' | b'T' | b'B' => u32::from_le_bytes(self.take()?).into(),
            0x8d | 0x8e => u64::from_le_bytes(self.take()?),
            _ => self.take::<1>()?[0].into(),
        };
        let bytes = self.slice(length)?;
        let raw = [b'B', b'C', 0x8e].contains(&code);
        let text = std::str::from_utf8(bytes).ok().filter(|_| !raw);
        self.push(text.map_or(Object::Other, |text| Object::Text(text.into())));
        Ok(())
    }

    fn gather(&mut self) -> Result<(), String> {
        let items = self.marked()?;
        self.push(Object::List(items));
        Ok(())
    }

    fn gather_dict(&mut self) -> Result<(), String> {
        let pairs = pairs(&self.marked()?)?;
        self.push(Object::Dict(pairs));
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Object::List(items));
        Ok(())
    }

    fn append(&mut self, one: bool) -> Result<(), String> {
        let items = if one { vec![self.pop()?] } else { self.marked()? };
        let top = self.top()? as usize;
        let Some(Object::List(list)) = self.objects.get_mut(top) else { return Err(damaged()) };
        list.extend(items);
        Ok(())
    }

    fn set(&mut self, one: bool) -> Result<(), String> {
        let items = match one {
            true => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            false => self.marked()?,
        };
        let top = self.top()? as usize;
        let Some(Object::Dict(dict)) = self.objects.get_mut(top) else { return Err(damaged()) };
        dict.extend(pairs(&items)?);
        Ok(())
    }

    /// Keeps the top for later, or brings back what was kept.
    fn memory(&mut self, code: u8) -> Result<(), String> {
        let slot = match code {
            b'q' | b'h' => self.take::<1>()?[0].into(),
            0x94 => self.memo.len() as u32,
            _ => u32::from_le_bytes(self.take()?),
        };
        if [b'h', b'j'].contains(&code) {
            self.stack.push(*self.memo.get(&slot).ok_or_else(damaged)?);
        } else {
            let top = self.top()?;
            self.memo.insert(slot, top);
        }
        Ok(())
    }

    fn global(&mut self, lines: bool) -> Result<(), String> {
        let (module, name): (Box<str>, Box<str>) = match lines {
            true => (self.line()?.into(), self.line()?.into()),
            false => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (object(&self.objects, module), object(&self.objects, name)) {
                    (Object::Text(module), Object::Text(name)) => (module.clone(), name.clone()),
                    _ => return Err(damaged()),
                }
            }
        };
        let global = Global::named(&module, &name).ok_or_else(|| {
            format!(
                "its pickle names {module}.{name}, which is not a tensor and is not executed here; where you trust the \
                 file, save its state_dict alone: torch.save(model.state_dict(), FILE)"
            )
        })?;
        self.push(Object::Global(global));
        Ok(())
    }

    fn items(&self, id: Id) -> Result<&[Id], String> {
        if let Object::List(items) = object(&self.objects, id) { Ok(items) } else { Err(damaged()) }
    }

    /// ('storage', type, key, device, elements), by which torch refers to what lies outside the pickle; before PyTorch 1.6 with
    /// `None` or (key, offset, elements) of a part behind.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let items: Vec<&Object> = self.items(id)?.iter().map(|&item| object(&self.objects, item)).collect();
        let [
            Object::Text(what),
            Object::Global(Global::Storage(dtype)),
            Object::Text(key),
            _,
            Object::Integer(elements),
            part @ ..,
        ] = &items[..]
        else {
            return Err(foreign());
        };
        if &**what != "storage" || key.len() > LONGEST_KEY {
            return Err(foreign());
        }
        let elements = u64::try_from(*elements).map_err(|_| damaged())?;
        let part = match part {
            [] | [Object::Other] => 0..elements,
            [Object::List(part)] => match part[..] {
                [_, offset, length] => {
                    let (start, length) = (self.count(offset)?, self.count(length)?);
                    let end = start.checked_add(length).filter(|&end| end <= elements).ok_or_else(damaged)?;
                    start..end
                }
                _ => return Err(foreign()),
            },
            _ => return Err(foreign()),
        };
        let storage = Storage { key: key.clone(), dtype: *dtype, elements, part };
        self.push(Object::Storage(Box::new(storage)));
        Ok(())
    }

    /// What torch and Python would call, done here for the few things on the list.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Object::Global(global) = *object(&self.objects, callee) else {
            return Err("its pickle calls something that it did not name".into());
        };
        let arguments = self.items(arguments)?;
        let first = arguments.first().map(|&first| object(&self.objects, first));
        let made = match (global, first) {
            (Global::Dict, None) => Object::Dict(Vec::new()),
            (Global::Size, Some(Object::List(_))) | (Global::Parameter, Some(Object::Tensor(_))) => {
                let same = arguments[0];
                self.stack.push(same);
                return Ok(());
            }
            (Global::Tensor, Some(Object::Storage(storage))) => match arguments[1..] {
                [offset, shape, strides, ..] => Object::Tensor(Box::new(View {
                    storage: (**storage).clone(),
                    offset: self.count(offset)?,
                    shape: self.counts(shape)?,
                    strides: self.counts(strides)?,
                })),
                _ => return Err(damaged()),
            },
            _ => return Err("its pickle calls what it names with arguments that torch does not write".into()),
        };
        self.push(made);
        Ok(())
    }

    fn count(&self, id: Id) -> Result<u64, String> {
        match object(&self.objects, id) {
            Object::Integer(number) => u64::try_from(*number).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<u64>, String> {
        let items = self.items(id)?;
        if items.len() > MOST_EXTENTS {
            return Err(format!("its pickle has a tensor of {} extents, {MOST_EXTENTS} are the limit", items.len()));
        }
        items.iter().map(|&item| self.count(item)).collect()
    }

    /// Attributes of a dict (torch hangs versions of its modules there) are of no use here.
    fn attributes(&mut self) -> Result<(), String> {
        self.pop()?;
        match object(&self.objects, self.top()?) {
            Object::Dict(_) | Object::Tensor(_) => Ok(()),
            _ => Err("its pickle sets attributes of something that is no dict".into()),
        }
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()) } else { Err(damaged()) }
}

fn foreign() -> String {
    "its pickle refers to something outside that is no storage".into()
}

fn damaged() -> String {
    "its pickle is damaged: fetch it again".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn plain_objects_are_read() {
        // {'epoch': 3, 'lr': 0.5, 'betas': (1, 2), 'names': ['a', None, True]} as Python 3 writes it with protocol 2.
        let bytes = b"\x80\x02}q\x00(X\x05\x00\x00\x00epochq\x01K\x03X\x02\x00\x00\x00lrq\x02G?\xe0\x00\x00\x00\x00\x00\x00X\x05\x00\x00\
                      \x00betasq\x03K\x01K\x02\x86q\x04X\x05\x00\x00\x00namesq\x05]q\x06(X\x01\x00\x00\x00aq\x07N\x88eu.";
        let (pickle, length) = Pickle::read(&[bytes, &b"what follows"[..]].concat()).unwrap();
        assert_eq!(length, bytes.len());
        let found: HashMap<&str, &Object> = pickle.entries(pickle.root()).collect();
        assert_eq!(found["epoch"], &Object::Integer(3));
        assert_eq!(found["lr"], &Object::Other);
        let Object::List(names) = found["names"] else { panic!("{found:?}") };
        assert_eq!((pickle.get(names[0]), pickle.get(names[2])), (&Object::Text("a".into()), &Object::Integer(1)));
        for length in 0..bytes.len() {
            assert!(Pickle::read(&bytes[..length]).is_err(), "{length} bytes were taken");
        }
    }

    #[test]
    fn what_wants_to_run_is_refused_by_name() {
        let system = b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00echo helloq\x00\x85R.";
        assert!(refused(system).contains("os.system"), "{}", refused(system));
        let stacked = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.";
        assert!(refused(stacked).contains("builtins.eval"));
        // INST, OBJ, PERSID and REDUCE of what is no global.
        for bytes in [&b"(ios\nsystem\n."[..], b"(o.", b"P1\n.", b"\x80\x02K\x01)R.", b"\x80\x02ctorch\nSize\nK\x01R."]
        {
            refused(bytes);
        }
    }

    #[test]
    fn faults_are_refused() {
        for bytes in [
            &b"."[..],
            b"(t",
            b"\x80\x02(K\x01.",
            b"K\x01K\x02s.",
            b"h\x05.",
            b"\x80\x02}K\x01a.",
            b"0.",
            b"1.",
            b"\x85.",
        ] {
            refused(bytes);
        }
        assert!(refused(&vec![b'N'; LONGEST + 1]).contains("limit"));
        let cycle = b"\x80\x02]q\x00h\x00a.";
        assert!(Pickle::read(cycle).is_ok());
    }
}
