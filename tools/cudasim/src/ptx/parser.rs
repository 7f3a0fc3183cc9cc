//! Reads PTX text into a [`Module`].

use super::lexer::{Spanned, Token, tokens};
use super::{Instruction, Kernel, Location, Module, Operand, Param, PtxError, Space, Type, Variable};

type Result<T> = std::result::Result<T, PtxError>;

/// Reads a module; the error names the line.
pub fn parse(text: &str) -> Result<Module> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut module = Module { text: text.lines().map(str::to_string).collect(), ..Module::default() };
    while let Some(token) = parser.peek() {
        match token.clone() {
            Token::Name(name) => parser.top_level(&name, &mut module)?,
            Token::Mark(';') => parser.at += 1,
            other => return Err(parser.error(format!("unexpected {other:?} at module level"))),
        }
    }
    if module.target == 0 {
        return Err(PtxError::new(1, "no .target line: this is not PTX"));
    }
    Ok(module)
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|s| &s.token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |s| s.line)
    }

    fn error(&self, message: impl Into<String>) -> PtxError {
        PtxError::new(self.line(), message)
    }

    fn next(&mut self) -> Result<Token> {
        let token = self.peek().cloned().ok_or_else(|| self.error("the text ends too early"))?;
        self.at += 1;
        Ok(token)
    }

    fn eat(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn eat_name(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Name(n)) if n == name);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<()> {
        if self.eat(mark) { Ok(()) } else { Err(self.error(format!("expected `{mark}`, found {:?}", self.peek()))) }
    }

    fn name(&mut self) -> Result<String> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            other => {
                self.at -= 1;
                Err(self.error(format!("expected a name, found {other:?}")))
            }
        }
    }

    fn int(&mut self) -> Result<i64> {
        let negative = self.eat('-');
        match self.next()? {
            Token::Int(value) => Ok(if negative { value.wrapping_neg() } else { value }),
            other => {
                self.at -= 1;
                Err(self.error(format!("expected a whole number, found {other:?}")))
            }
        }
    }

    fn top_level(&mut self, name: &str, module: &mut Module) -> Result<()> {
        match name {
            ".version" => {
                self.at += 1;
                let version = self.name()?;
                let (major, minor) = version.split_once('.').unwrap_or((&version, "0"));
                module.version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
            }
            ".target" => {
                self.at += 1;
                let target = self.name()?;
                module.target = target
                    .strip_prefix("sm_")
                    .and_then(|n| n.trim_end_matches('a').parse().ok())
                    .ok_or_else(|| self.error(format!("unknown target {target}")))?;
                while self.eat(',') {
                    self.name()?;
                }
            }
            ".address_size" => {
                self.at += 1;
                if self.int()? != 64 {
                    return Err(self.error("only .address_size 64 is supported"));
                }
            }
            ".file" => {
                self.at += 1;
                let number = self.int()? as u32;
                if let Token::Text(path) = self.next()? {
                    module.files.push((number, path));
                }
                while self.eat(',') {
                    self.next()?;
                }
            }
            ".section" => self.skip_section()?,
            ".visible" | ".extern" | ".weak" => self.at += 1,
            ".entry" => {
                let kernel = self.kernel()?;
                module.kernels.push(kernel);
            }
            ".func" => return Err(self.error(".func is not supported: inline every function")),
            ".global" | ".const" | ".shared" => {
                let variable = self.variable()?;
                module.variables.push(variable);
            }
            _ => return Err(self.error(format!("unknown directive {name}"))),
        }
        Ok(())
    }

    /// Debug sections hold nothing that the simulator needs.
    fn skip_section(&mut self) -> Result<()> {
        while self.next()? != Token::Mark('{') {}
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// `.shared .align 16 .b8 name[64] = {1, 2};`
    fn variable(&mut self) -> Result<Variable> {
        let space = match self.name()?.as_str() {
            ".global" => Space::Global,
            ".const" => Space::Const,
            ".shared" => Space::Shared,
            _ => Space::Local,
        };
        let mut align = None;
        let mut vector = 1;
        let ty = loop {
            let word = self.name()?;
            match word.as_str() {
                ".align" => align = Some(self.int()? as u32),
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".attribute" => return Err(self.error(".attribute is not supported")),
                _ => {
                    break Type::parse(word.trim_start_matches('.'))
                        .ok_or_else(|| self.error(format!("unknown type {word}")))?;
                }
            }
        };
        let name = self.name()?;
        let mut count = 1u32;
        while self.eat('[') {
            if self.eat(']') {
                count = 0;
            } else {
                count *= self.int()? as u32;
                self.expect(']')?;
            }
        }
        let element = ty.size() * vector;
        let mut initial = Vec::new();
        if self.eat('=') {
            self.initial(ty, &mut initial)?;
        }
        self.expect(';')?;
        let align = align.unwrap_or(element);
        Ok(Variable { name, space, align, size: element * count, initial })
    }

    fn initial(&mut self, ty: Type, out: &mut Vec<u8>) -> Result<()> {
        if self.eat('{') {
            while !self.eat('}') {
                self.initial(ty, out)?;
                self.eat(',');
            }
            return Ok(());
        }
        let negative = self.eat('-');
        let bits = match self.next()? {
            Token::Int(value) => (if negative { value.wrapping_neg() } else { value }) as u64,
            Token::Float(bits) => u64::from(bits),
            Token::Double(bits) => bits,
            _ => return Err(self.error("only numbers may initialise a variable")),
        };
        out.extend_from_slice(&bits.to_le_bytes()[..ty.size() as usize]);
        Ok(())
    }

    fn kernel(&mut self) -> Result<Kernel> {
        self.at += 1;
        let mut kernel = Kernel { line: self.line(), name: self.name()?, ..Kernel::default() };
        if self.eat('(') {
            while !self.eat(')') {
                kernel.params.push(self.param()?);
                self.eat(',');
            }
        }
        while !self.eat('{') {
            let directive = self.name()?;
            let mut numbers = [1u32; 3];
            let mut count = 0;
            while let Some(Token::Int(value)) = self.peek() {
                let value = *value as u32;
                if count < 3 {
                    numbers[count] = value;
                }
                count += 1;
                self.at += 1;
                self.eat(',');
            }
            match directive.as_str() {
                ".maxntid" => kernel.max_threads = Some(numbers.iter().product()),
                ".reqntid" => {
                    kernel.max_threads = Some(numbers.iter().product());
                    kernel.required_threads = Some(numbers);
                }
                ".minnctapersm" | ".maxnreg" => {}
                _ => return Err(self.error(format!("unknown directive {directive}"))),
            }
        }
        self.body(&mut kernel)?;
        Ok(kernel)
    }

    /// `.param .align 8 .b8 name[24]` or `.param .u64 .ptr .global .align 4 name`.
    fn param(&mut self) -> Result<Param> {
        if !self.eat_name(".param") {
            return Err(self.error("expected .param"));
        }
        let (mut align, mut ty) = (None, None);
        loop {
            let word = self.name()?;
            match word.as_str() {
                ".align" => {
                    let value = self.int()? as u32;
                    // after the type, .align speaks of what a pointer points to
                    if ty.is_none() {
                        align = Some(value);
                    }
                }
                ".ptr" | ".global" | ".shared" | ".const" | ".local" => {}
                _ if word.starts_with('.') => {
                    ty = Some(Type::parse(&word[1..]).ok_or_else(|| self.error(format!("unknown type {word}")))?);
                }
                _ => {
                    let ty = ty.ok_or_else(|| self.error("parameter without a type"))?;
                    let mut count = 1;
                    if self.eat('[') {
                        count = self.int()? as u32;
                        self.expect(']')?;
                    }
                    let align = align.unwrap_or(ty.size());
                    return Ok(Param { name: word, size: ty.size() * count, align });
                }
            }
        }
    }

    fn body(&mut self, kernel: &mut Kernel) -> Result<()> {
        let mut location = Location::default();
        let mut depth = 1;
        loop {
            let line = self.line();
            match self.next()? {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Token::Mark(';') => {}
                Token::Mark('@') => {
                    let negated = self.eat('!');
                    let guard = Some((self.name()?, negated));
                    let opcode = self.name()?;
                    let instruction = self.instruction(guard, &opcode, line, location)?;
                    kernel.body.push(instruction);
                }
                Token::Name(name) => match name.as_str() {
                    ".reg" => self.registers(kernel)?,
                    ".loc" => {
                        let (file, row) = (self.int()? as u32, self.int()? as u32);
                        self.int()?;
                        while self.eat(',') {
                            self.skip_loc_clause()?;
                        }
                        // line 0 means that the compiler knows no line; the last one helps more
                        if row != 0 {
                            location = Location { file, line: row };
                        }
                    }
                    ".shared" | ".local" | ".global" | ".const" => {
                        self.at -= 1;
                        let variable = self.variable()?;
                        kernel.variables.push(variable);
                    }
                    ".pragma" => {
                        while !self.eat(';') {
                            self.next()?;
                        }
                    }
                    _ if self.eat(':') => kernel.labels.push((name, kernel.body.len())),
                    _ if name.starts_with('.') => {
                        return Err(PtxError::new(line, format!("unknown directive {name}")));
                    }
                    _ => {
                        let instruction = self.instruction(None, &name, line, location)?;
                        kernel.body.push(instruction);
                    }
                },
                other => return Err(PtxError::new(line, format!("unexpected {other:?}"))),
            }
        }
    }

    /// `function_name $L__info0, inlined_at 1 9 3`
    fn skip_loc_clause(&mut self) -> Result<()> {
        let word = self.name()?;
        if word == "function_name" {
            self.name()?;
            if self.eat('+') {
                self.int()?;
            }
        } else {
            for _ in 0..3 {
                self.int()?;
            }
        }
        Ok(())
    }

    fn registers(&mut self, kernel: &mut Kernel) -> Result<()> {
        let word = self.name()?;
        let ty = Type::parse(word.trim_start_matches('.'));
        if ty.is_none() {
            return Err(self.error(format!("unknown register type {word}")));
        }
        loop {
            let name = self.name()?;
            let mut count = None;
            if self.eat('<') {
                count = Some(self.int()? as u32);
                self.expect('>')?;
            }
            kernel.registers.push((name, count, ty));
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    fn instruction(
        &mut self,
        guard: Option<(String, bool)>,
        opcode: &str,
        line: u32,
        location: Location,
    ) -> Result<Instruction> {
        let mut operands = Vec::new();
        while !self.eat(';') {
            operands.push(self.operand()?);
            if !self.eat(',') && self.peek() != Some(&Token::Mark(';')) {
                return Err(self.error(format!("expected `,` or `;`, found {:?}", self.peek())));
            }
        }
        let opcode = opcode.split('.').map(str::to_string).collect();
        Ok(Instruction { guard, opcode, operands, line, location })
    }

    fn operand(&mut self) -> Result<Operand> {
        Ok(match self.next()? {
            Token::Name(name) => {
                if self.eat('|') {
                    Operand::Pair(name, self.name()?)
                } else if self.eat('+') {
                    return Err(self.error("an offset outside of an address is not supported"));
                } else {
                    Operand::Name(name)
                }
            }
            Token::Int(value) => Operand::Int(value),
            Token::Float(bits) => Operand::Float(bits),
            Token::Double(bits) => Operand::Double(bits),
            Token::Mark('-') => Operand::Int(self.int()?.wrapping_neg()),
            Token::Mark('!') => Operand::Not(self.name()?),
            Token::Mark('{') => {
                let mut parts = Vec::new();
                while !self.eat('}') {
                    parts.push(self.operand()?);
                    self.eat(',');
                }
                Operand::Vector(parts)
            }
            Token::Mark('[') => {
                let operand = match self.peek() {
                    Some(Token::Name(_)) => {
                        let base = self.name()?;
                        let signed = self.eat('+') || self.peek() == Some(&Token::Mark('-'));
                        let offset = if signed { self.int()? } else { 0 };
                        Operand::Address(Some(base), offset)
                    }
                    _ => Operand::Address(None, self.int()?),
                };
                self.expect(']')?;
                operand
            }
            other => {
                self.at -= 1;
                return Err(self.error(format!("unexpected operand {other:?}")));
            }
        })
    }
}
