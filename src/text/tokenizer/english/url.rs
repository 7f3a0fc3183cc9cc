//! Whether a piece of text is an address (web or e-mail) that is kept whole.

use super::super::tables::is_lower;

/// `[scheme://][user@](IPv4|host.name)[:port][/path]`, where the top-level name is two or more
/// lower-case letters. By that rule two sentences without a space between (`film.the`) are an
/// address too; the reference does the same.
pub(super) fn is_address(text: &str) -> bool {
    if !text.contains('.') {
        return false;
    }
    let scheme = text.find("://").filter(|&at| {
        let name = &text[..at];
        name.chars().count() >= 2 && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))
    });
    std::iter::once(0).chain(scheme.map(|at| at + 3)).any(|start| {
        let rest = &text[start..];
        let users = rest.match_indices('@').filter(|(at, _)| *at > 0).map(|(at, _)| at + 1);
        std::iter::once(0).chain(users).any(|host| is_host(&rest[host..]))
    })
}

fn is_host(text: &str) -> bool {
    let end = text.find([':', '/', '?', '#']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    if !is_domain(host) && !is_ipv4(host) {
        return false;
    }
    let path = match rest.strip_prefix(':') {
        None => rest,
        Some(port) => {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            if !(2..=5).contains(&digits) {
                return false;
            }
            &port[digits..]
        }
    };
    path.is_empty() || path.starts_with(['/', '?', '#'])
}

fn is_domain(host: &str) -> bool {
    let Some((names, top)) = host.rsplit_once('.') else { return false };
    let letter = |c: char| c.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&c);
    let name = |label: &str| {
        label.starts_with(letter)
            && label.ends_with(letter)
            && label.chars().count() <= 64
            && label.chars().all(|c| letter(c) || c == '_' || c == '-')
    };
    (2..=63).contains(&top.chars().count()) && top.chars().all(is_lower) && names.split('.').all(name)
}

fn is_ipv4(host: &str) -> bool {
    let parts: Vec<&str> = host.split('.').collect();
    let number = |p: &&str| p.len() <= 3 && p.bytes().all(|b| b.is_ascii_digit()) && !p.is_empty();
    if parts.len() != 4 || !parts.iter().all(number) {
        return false;
    }
    let values: Vec<u32> = parts.iter().map(|p| p.parse().unwrap_or(999)).collect();
    let [a, b, c, d] = values[..] else { return false };
    let private = matches!((a, b), (10 | 127, _) | (169, 254) | (192, 168) | (172, 16..=31));
    let no_leading_zero = !parts[0].starts_with('0') && !parts[3].starts_with('0');
    !private && no_leading_zero && (1..=223).contains(&a) && b <= 255 && c <= 255 && (1..=254).contains(&d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for yes in [
            "www.foo.com",
            "foo.com/a?b",
            "http://foo.co.uk:80/x",
            "me@foo.org",
            "film.the",
            "8.8.8.8",
            "a-b.x_y.de",
            "http://user:pw@foo.com",
            "x+y://foo.de",
        ] {
            assert!(is_address(yes), "{yes}");
        }
        for no in
            ["foo", "a.b", "end.The", "3.14", "10.0.0.1", "1.2.3", "-a.com", "foo.com:1", "foo..com", "@foo.c1", ".com"]
        {
            assert!(!is_address(no), "{no}");
        }
    }
}
