//! Values of flags that need more than a plain parser. Every function's error is part of a
//! sentence.

type Parsed<T> = Result<T, String>;

/// Bytes: a number, with K, M, G, T (powers of 1024, also as KB or KiB) or without.
pub fn size(text: &str) -> Parsed<usize> {
    let error = || "write a size as 800MB, 2GiB or a number of bytes".to_string();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>().map_err(|_| error())?, text[split..].trim());
    let unit = unit.to_ascii_lowercase();
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(error()),
    };
    let bytes = number * (1u64 << exponent) as f64;
    if bytes < 1.0 || bytes > isize::MAX as f64 {
        return Err("the size is not one a machine can have".into());
    }
    Ok(bytes as usize)
}

/// The name of a value of a list, as on the command line.
pub fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default()
}

fn number(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("it is not a finite number".into()),
    }
}

/// Repetitions of a whole run: at least 1, and not so many that no machine would end them.
pub fn few(text: &str) -> Parsed<usize> {
    match text.parse::<usize>() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(n) if n <= 10_000 => Ok(n),
        Ok(_) => Err("it must be at most 10000".into()),
        Err(_) => Err("it is not a whole number from 1 to 10000".into()),
    }
}

/// A learning rate: finite and above zero.
pub fn above_zero(text: &str) -> Parsed<f64> {
    number(text).and_then(|v| if v > 0.0 { Ok(v) } else { Err("it must be above zero".into()) })
}

/// Finite and not negative.
pub fn not_negative(text: &str) -> Parsed<f64> {
    number(text).and_then(|v| if v >= 0.0 { Ok(v) } else { Err("it must not be negative".into()) })
}

/// A share, from 0 up to but not including 1.
pub fn fraction(text: &str) -> Parsed<f64> {
    number(text).and_then(|v| {
        if (0.0..1.0).contains(&v) { Ok(v) } else { Err("it must be from 0 up to, not including, 1".into()) }
    })
}

/// A share, from 0 to 1.
pub fn share(text: &str) -> Parsed<f64> {
    number(text).and_then(|v| if (0.0..=1.0).contains(&v) { Ok(v) } else { Err("it must be from 0 to 1".into()) })
}

/// What stands between columns: a character of ASCII, or the word `tab`.
pub fn delimiter(text: &str) -> Parsed<u8> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [b] if b.is_ascii() && !matches!(b, b'"' | b'\n' | b'\r' | b'\\') => Ok(*b),
        _ => Err("it must be one character of ASCII, as ';', or the word tab".into()),
    }
}

/// `yes` or `no`.
pub fn yes_or_no(text: &str) -> Parsed<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it must be yes or no".into()),
    }
}

/// A count of at least one.
pub fn count(text: &str) -> Parsed<usize> {
    match text.parse::<usize>() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(value) => Ok(value),
        Err(_) => Err("it is not a whole number above zero".into()),
    }
}

/// An address of this machine with a port.
pub fn address(text: &str) -> Parsed<std::net::SocketAddr> {
    text.parse().map_err(|_| "write an address in numbers and a port, as 127.0.0.1:8080".into())
}

/// A count, zero too.
pub fn from_zero(text: &str) -> Parsed<usize> {
    text.parse().map_err(|_| "it is not a whole number from 0 on".into())
}

/// Epochs: `N`, or `n1,n2,…` for the steps of unfreezing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs(pub Vec<usize>);

impl std::str::FromStr for Epochs {
    type Err = String;

    fn from_str(text: &str) -> Parsed<Self> {
        text.split(',').map(|part| count(part.trim())).collect::<Parsed<_>>().map(Epochs)
    }
}

/// Learning rates: one, or one for each step of unfreezing.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates(pub Vec<f64>);

impl std::str::FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Parsed<Self> {
        text.split(',').map(|part| above_zero(part.trim())).collect::<Parsed<_>>().map(Rates)
    }
}

/// `key=value`
pub fn assignment(text: &str) -> Parsed<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

/// `on` (the ladder of the recipe), `off`, or the factor between neighbouring groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discriminative {
    On,
    Off,
    Factor(f64),
}

impl std::str::FromStr for Discriminative {
    type Err = String;

    fn from_str(text: &str) -> Parsed<Self> {
        match text {
            "on" => Ok(Discriminative::On),
            "off" => Ok(Discriminative::Off),
            _ => above_zero(text).map(Discriminative::Factor).map_err(|_| "use on, off or a factor above zero".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!(size("1.5k"), Ok(1536));
        assert_eq!([size("2GB"), size("2GiB"), size("2 g")], [Ok(2 << 30), Ok(2 << 30), Ok(2 << 30)]);
        assert!(["", "0", "GB", "-1", "3X", "1e400T", "99999999T"].iter().all(|t| size(t).is_err()));
    }

    #[test]
    fn numbers() {
        assert!(["nan", "inf", "x", "0", "-1"].iter().all(|t| above_zero(t).is_err()));
        assert_eq!(fraction("0"), Ok(0.0));
        assert!(share("1") == Ok(1.0) && share("1.1").is_err() && share("-0.1").is_err());
        assert!(fraction("1").is_err() && not_negative("-0.1").is_err() && count("0").is_err() && count("-3").is_err());
        assert_eq!("1, 2,3".parse(), Ok(Epochs(vec![1, 2, 3])));
        assert_eq!("1e-2,0.5".parse(), Ok(Rates(vec![0.01, 0.5])));
        assert!("0.1,nan".parse::<Rates>().is_err() && "0.1,".parse::<Rates>().is_err());
        assert_eq!(assignment("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert!(assignment("a").is_err() && assignment("=a").is_err());
        assert!("1,,2".parse::<Epochs>().is_err() && "0".parse::<Epochs>().is_err());
        assert_eq!("2.6".parse(), Ok(Discriminative::Factor(2.6)));
        assert!("of".parse::<Discriminative>().is_err());
    }
}
