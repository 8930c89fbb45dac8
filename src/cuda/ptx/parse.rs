//! Tokens to the syntax tree.

use super::lex::{Token, lex};
use super::{Function, Module, Operand, Scope, Statement, Symbol, SyntaxError, Variable, type_bytes};

/// Registers that one function may declare; the decoder numbers them with 16 bits per class.
const MOST_REGISTERS: usize = 1 << 17;

/// Parses one PTX text.
pub fn parse(text: &str) -> Result<Module> {
    let mut parser = Parser { tokens: lex(text)?, at: 0 };
    let mut module = Module { address_bits: 32, ..Module::default() };
    while parser.at < parser.tokens.len() {
        parser.item(&mut module)?;
    }
    if module.target.is_empty() {
        return Err(SyntaxError { line: 1, what: "there is no .target directive; this is not a PTX module".into() });
    }
    Ok(module)
}

struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// Line of the next token, or of the last one at the end.
    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    fn wrong<T>(&self, expected: &str) -> Result<T> {
        let found = self.peek().map_or("the end".to_owned(), Token::to_string);
        Err(SyntaxError { line: self.line(), what: format!("expected {expected}, found {found}") })
    }

    fn accept(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Result<()> {
        if self.accept(sign) { Ok(()) } else { self.wrong(&format!("`{sign}`")) }
    }

    fn word(&mut self, expected: &str) -> Result<String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => self.wrong(expected),
        }
    }

    fn skip_line(&mut self, line: u32) {
        while self.at < self.tokens.len() && self.line() == line {
            self.at += 1;
        }
    }

    fn unsigned(&mut self) -> Result<u32> {
        match self.number()? {
            Operand::Integer(value) if u32::try_from(value).is_ok() => Ok(value as u32),
            _ => {
                self.at -= 1;
                self.wrong("a number below 2^32")
            }
        }
    }

    /// One directive, function or variable of the module.
    fn item(&mut self, module: &mut Module) -> Result<()> {
        if self.accept(';') {
            return Ok(());
        }
        let line = self.line();
        let mut external = false;
        loop {
            let word = self.word("a directive")?;
            match word.as_str() {
                ".version" => {
                    let Some(Token::Number(text)) = self.peek().cloned() else { return self.wrong("a version") };
                    let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                    let Some(version) = parts else { return self.wrong("a version") };
                    self.at += 1;
                    module.version = version;
                }
                ".target" => {
                    module.target = self.word("an architecture")?;
                    while self.accept(',') {
                        self.word("a target option")?;
                    }
                }
                ".address_size" => module.address_bits = self.unsigned()?,
                ".file" => {
                    let index = self.unsigned()?;
                    let Some(Token::Text(name)) = self.peek().cloned() else { return self.wrong("a file name") };
                    module.files.push((index, name));
                    self.skip_line(line);
                }
                ".section" => self.skip_section()?,
                ".visible" | ".weak" | ".common" => continue,
                ".extern" => {
                    external = true;
                    continue;
                }
                ".entry" | ".func" => module.functions.push(self.function(word == ".entry", line)?),
                ".global" | ".const" | ".shared" => {
                    let mut variables = self.variables(&word[1..])?;
                    variables.iter_mut().for_each(|variable| variable.external = external);
                    module.variables.append(&mut variables);
                }
                _ => {
                    self.at -= 1;
                    return self.wrong("a directive of a module");
                }
            }
            return Ok(());
        }
    }

    /// Debug sections: everything between braces.
    fn skip_section(&mut self) -> Result<()> {
        while !self.accept('{') {
            if self.peek().is_none() {
                return self.wrong("`{`");
            }
            self.at += 1;
        }
        while !self.accept('}') {
            if self.peek().is_none() {
                return self.wrong("`}`");
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Variables after the name of their space, to the semicolon.
    fn variables(&mut self, space: &str) -> Result<Vec<Variable>> {
        let mut variables = vec![self.variable(space)?];
        while self.accept(',') {
            let first = &variables[0];
            let (kind, align) = (first.kind.clone(), first.align);
            variables.push(self.declarator(space, kind, align)?);
        }
        self.expect(';')?;
        Ok(variables)
    }

    /// A variable or parameter after the name of its space.
    fn variable(&mut self, space: &str) -> Result<Variable> {
        let (mut align, mut kind, mut pointer) = (0, String::new(), false);
        loop {
            let word = match self.peek() {
                Some(Token::Word(word)) if word.starts_with('.') => word.clone(),
                _ => break,
            };
            self.at += 1;
            match word.as_str() {
                // The alignment after `.ptr` is that of what is pointed to.
                ".align" => {
                    let bytes = self.unsigned()? as usize;
                    if !pointer {
                        align = bytes;
                    }
                }
                ".ptr" => pointer = true,
                ".global" | ".shared" | ".const" | ".local" if pointer => {}
                _ => kind = word[1..].to_owned(),
            }
        }
        if align > 1 << 16 || align != 0 && !align.is_power_of_two() {
            return self.wrong("an alignment that is a power of two");
        }
        self.declarator(space, kind, align)
    }

    /// Name, extents and initialiser.
    fn declarator(&mut self, space: &str, kind: String, align: usize) -> Result<Variable> {
        let line = self.line();
        let Some(element) = type_bytes(&kind) else { return self.wrong(&format!("a type instead of `.{kind}`")) };
        let name = self.word("a name")?;
        let mut bytes = Some(element);
        while self.accept('[') {
            let extent = if self.peek() == Some(&Token::Sign(']')) { 0 } else { self.unsigned()? };
            bytes = bytes.and_then(|bytes| bytes.checked_mul(extent as usize));
            self.expect(']')?;
        }
        let Some(bytes) = bytes.filter(|&bytes| bytes <= 1 << 40) else {
            return self.wrong("an array below 2^40 bytes");
        };
        let initial = if self.accept('=') { self.initial()? } else { Vec::new() };
        let (space, align) = (space.to_owned(), align.max(element));
        Ok(Variable { space, name, kind, align, bytes, external: false, initial, line })
    }

    /// An initialiser: one value, or values in braces, which may nest.
    fn initial(&mut self) -> Result<Vec<Operand>> {
        let (mut depth, mut values) = (0, Vec::new());
        loop {
            if self.accept('{') {
                depth += 1;
                continue;
            }
            values.push(self.atom()?);
            while depth > 0 && self.accept('}') {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(values);
            }
            self.expect(',')?;
        }
    }

    /// A function or entry after its directive.
    fn function(&mut self, entry: bool, line: u32) -> Result<Function> {
        let mut function = Function { entry, line, scopes: vec![Scope::default()], ..Function::default() };
        if self.accept('(') {
            function.returns = self.params()?;
        }
        function.name = self.word("a function name")?;
        if self.accept('(') {
            function.params = self.params()?;
        }
        while let Some(Token::Word(word)) = self.peek().cloned() {
            self.at += 1;
            let mut numbers = Vec::new();
            while let Some(Token::Number(_)) = self.peek() {
                numbers.push(self.unsigned()?);
                self.accept(',');
            }
            function.directives.push((word.trim_start_matches('.').to_owned(), numbers));
        }
        if self.accept(';') {
            return Ok(function);
        }
        self.expect('{')?;
        function.defined = true;
        self.body(&mut function)?;
        Ok(function)
    }

    fn params(&mut self) -> Result<Vec<Variable>> {
        let mut params = Vec::new();
        while !self.accept(')') {
            let space = self.word("`.param`")?;
            params.push(self.variable(space.trim_start_matches('.'))?);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(params)
    }

    /// Everything up to the brace that closes the function.
    fn body(&mut self, function: &mut Function) -> Result<()> {
        let (mut scope, mut location) = (0, None);
        loop {
            let line = self.line();
            if self.accept('{') {
                function.scopes.push(Scope { parent: Some(scope), ..Scope::default() });
                scope = function.scopes.len() - 1;
            } else if self.accept('}') {
                match function.scopes[scope].parent {
                    Some(parent) => scope = parent,
                    None => return Ok(()),
                }
            } else if self.accept(';') {
                continue;
            } else {
                self.line_of_body(function, scope, &mut location, line)?;
            }
        }
    }

    /// A declaration, label, directive or instruction within a function.
    fn line_of_body(
        &mut self,
        function: &mut Function,
        scope: usize,
        location: &mut Option<(u32, u32)>,
        line: u32,
    ) -> Result<()> {
        let guard = if self.accept('@') {
            let negated = self.accept('!');
            Some((self.word("a predicate")?, negated))
        } else {
            None
        };
        let word = self.word("an instruction")?;
        match word.as_str() {
            ".loc" => {
                *location = Some((self.unsigned()?, self.unsigned()?));
                self.skip_line(line);
            }
            ".pragma" => {
                while !self.accept(';') {
                    let Some(Token::Text(_) | Token::Sign(',')) = self.peek() else { return self.wrong("a text") };
                    self.at += 1;
                }
            }
            ".reg" => self.registers(function, scope)?,
            ".shared" | ".local" | ".param" | ".const" | ".global" => {
                for variable in self.variables(&word[1..])? {
                    let symbol = Symbol::Variable(function.variables.len());
                    function.scopes[scope].symbols.insert(variable.name.clone(), symbol);
                    function.variables.push(variable);
                }
            }
            _ if guard.is_none() && self.accept(':') => {
                if self.peek() == Some(&Token::Word(".branchtargets".into())) {
                    self.at += 1;
                    let labels = self.names()?;
                    function.scopes[scope].tables.insert(word, labels);
                } else {
                    let next = function.statements.len();
                    function.scopes[scope].labels.insert(word, next);
                }
            }
            _ if word.starts_with('.') => {
                self.at -= 1;
                return self.wrong("a declaration or an instruction");
            }
            _ => {
                let mut words = word.split('.').map(str::to_owned);
                let opcode = words.next().unwrap_or_default();
                let (modifiers, operands, location) = (words.collect(), self.operands()?, *location);
                function.statements.push(Statement { line, location, guard, opcode, modifiers, operands, scope });
            }
        }
        Ok(())
    }

    fn names(&mut self) -> Result<Vec<String>> {
        let mut names = vec![self.word("a label")?];
        while self.accept(',') {
            names.push(self.word("a label")?);
        }
        self.expect(';')?;
        Ok(names)
    }

    /// `.reg` declarations: single names and ranges.
    fn registers(&mut self, function: &mut Function, scope: usize) -> Result<()> {
        let kind = self.word("a type")?;
        let kind = kind.trim_start_matches('.');
        if type_bytes(kind).is_none() {
            self.at -= 1;
            return self.wrong("a type of registers");
        }
        loop {
            let name = self.word("a register")?;
            let first = function.registers.len();
            let count = if self.accept('<') {
                let count = self.unsigned()?;
                self.expect('>')?;
                function.scopes[scope].ranges.push((name, count, first as u32));
                count as usize
            } else {
                function.scopes[scope].symbols.insert(name, Symbol::Register(first as u32));
                1
            };
            if first + count > MOST_REGISTERS {
                return self.wrong(&format!("at most {MOST_REGISTERS} registers in a function"));
            }
            function.registers.resize(first + count, kind.to_owned());
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    /// Operands up to the semicolon.
    fn operands(&mut self) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        if self.accept(';') {
            return Ok(operands);
        }
        loop {
            operands.push(self.operand()?);
            if !self.accept(',') {
                self.expect(';')?;
                return Ok(operands);
            }
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        if self.accept('{') {
            return Ok(Operand::Vector(self.atoms('}')?));
        }
        if self.accept('(') {
            return Ok(Operand::List(self.atoms(')')?));
        }
        if self.accept('[') {
            return self.address();
        }
        let first = self.atom()?;
        if self.accept('|') { Ok(Operand::Pair(Box::new(first), Box::new(self.atom()?))) } else { Ok(first) }
    }

    /// Simple operands up to a closing sign.
    fn atoms(&mut self, close: char) -> Result<Vec<Operand>> {
        let mut atoms = Vec::new();
        while !self.accept(close) {
            atoms.push(self.atom()?);
            if !self.accept(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(atoms)
    }

    /// The inside of brackets.
    fn address(&mut self) -> Result<Operand> {
        let (base, offset) = match self.atom()? {
            Operand::Offset(name, offset) => (Operand::Name(name), offset),
            base => (base, 0),
        };
        let mut rest = Vec::new();
        while self.accept(',') {
            if self.accept('{') {
                rest.append(&mut self.atoms('}')?);
            } else {
                rest.push(self.atom()?);
            }
        }
        self.expect(']')?;
        Ok(Operand::Address { base: Box::new(base), offset, rest })
    }

    /// A name with or without an offset, a number, a negated predicate or a sink.
    fn atom(&mut self) -> Result<Operand> {
        if self.accept('!') {
            return Ok(Operand::Not(self.word("a predicate")?));
        }
        let Some(Token::Word(name)) = self.peek().cloned() else { return self.number() };
        self.at += 1;
        if name == "_" {
            return Ok(Operand::Sink);
        }
        let mut offset = None;
        while matches!(self.peek(), Some(Token::Sign('+' | '-'))) {
            self.accept('+');
            match self.number()? {
                Operand::Integer(value) if i64::try_from(value).is_ok() => {
                    offset = Some(offset.unwrap_or(0i64).wrapping_add(value as i64));
                }
                _ => {
                    self.at -= 1;
                    return self.wrong("an offset");
                }
            }
        }
        Ok(match offset {
            Some(offset) => Operand::Offset(name, offset),
            None => Operand::Name(name),
        })
    }

    fn number(&mut self) -> Result<Operand> {
        let negative = self.accept('-');
        let Some(Token::Number(text)) = self.peek() else { return self.wrong("an operand") };
        let Some(number) = number(text, negative) else { return self.wrong("a number") };
        self.at += 1;
        Ok(number)
    }
}

/// The value of a literal (4.5).
fn number(text: &str, negative: bool) -> Option<Operand> {
    if let Some(digits) = text.strip_prefix("0f").or_else(|| text.strip_prefix("0F")) {
        let bits = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)?;
        return Some(Operand::F32(bits ^ u32::from(negative) << 31));
    }
    if let Some(digits) = text.strip_prefix("0d").or_else(|| text.strip_prefix("0D")) {
        let bits = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)?;
        return Some(Operand::F64(bits ^ u64::from(negative) << 63));
    }
    if text.contains('.') {
        let value: f64 = text.parse().ok()?;
        return Some(Operand::F64(if negative { -value } else { value }.to_bits()));
    }
    let digits = text.trim_end_matches('U');
    let value = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => u64::from_str_radix(&digits[2..], 16),
        [b'0', b'b' | b'B', ..] => u64::from_str_radix(&digits[2..], 2),
        [b'0', _, ..] => u64::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    let value = i128::from(value.ok()?);
    Some(Operand::Integer(if negative { -value } else { value }))
}
