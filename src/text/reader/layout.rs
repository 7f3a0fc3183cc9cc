//! How a table is laid out: the character between its columns, the meaning of a quote, whether the
//! first row names the columns.

use std::io::BufRead;

use super::Role;
use super::columns::{Columns, list};
use super::detect::Look;
use super::rows::{Fault, Quotes, Rows};
use crate::error::{Error, Result};

/// A table's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    /// Whether the first row names the columns.
    pub(super) header: bool,
    pub(super) quotes: Quotes,
    /// Whether the user says so: then a quoted field of many lines is not looked at twice.
    pub(super) quotes_given: bool,
    /// Whether the first line is `sep=;`, a spreadsheet's word on the delimiter.
    pub(super) separator_line: bool,
    /// Whether a column has the labels.
    pub(super) labelled: bool,
}

/// Not a table.
pub(super) const NONE: Layout = Layout {
    delimiter: b',',
    header: false,
    quotes: Quotes::Enclose,
    quotes_given: false,
    separator_line: false,
    labelled: false,
};

/// The delimiter that a file's name or format implies, and the other candidates.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// Rows of a sample that are looked at.
const ROWS: usize = 200;

impl Layout {
    /// In words: the kind of table, and which columns of `first`, the first row, are read.
    fn describe(self, first: &[String], columns: &Columns) -> String {
        let kind = if self.delimiter == b'\t' { "TSV" } else { "CSV" };
        let header = if self.header { "with a header" } else { "without a header" };
        let delimiter = match self.delimiter {
            b',' | b'\t' => String::new(),
            other => format!(", '{}' between columns", char::from(other)),
        };
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let found = columns_of(columns, &first, self.header);
        let class_first = if !self.header && !columns.are_given() && first.len() > 1 { ", class first" } else { "" };
        let Ok((text, label)) = found else { return format!("{kind} {header}{class_first}{delimiter}") };
        let name = |i: usize| if self.header { list(&first[i..=i]) } else { (i + 1).to_string() };
        let text: Vec<String> = text.into_iter().map(name).collect();
        let label = label.map_or("no label".into(), |i| format!("label {}", name(i)));
        let quotes = match self.quotes {
            Quotes::Enclose => "",
            Quotes::Backslash => ", quotes after a backslash",
            Quotes::Characters => ", quotes as characters",
        };
        format!("{kind} {header}{class_first}{delimiter} (text {}, {label}{quotes})", text.join(" + "))
    }
}

/// The columns of text and of the label by the first row, which names them where it is a header.
fn columns_of(columns: &Columns, first: &[&str], header: bool) -> Result<(Vec<usize>, Option<usize>), String> {
    if header { columns.resolve(first) } else { columns.by_number(first.len()) }
}

/// `sep=;` and nothing else, perhaps in quotes.
fn separator_line(line: &str) -> Option<u8> {
    match line.trim_matches('"').strip_prefix("sep=")?.as_bytes() {
        [b] if b.is_ascii() && !b.is_ascii_alphanumeric() => Some(*b),
        _ => None,
    }
}

/// A sample read as a table.
struct Tried {
    delimiter: u8,
    quotes: Quotes,
    rows: Vec<Vec<String>>,
}

impl Tried {
    fn first(&self) -> Vec<&str> {
        self.rows.first().map(|r| r.iter().map(String::as_str).collect()).unwrap_or_default()
    }

    fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    fn is_even(&self) -> bool {
        self.rows.windows(2).all(|pair| pair[0].len() == pair[1].len())
    }
}

/// The rows of a sample, without the one it may have cut; and whether its quotes are in order.
fn rows(text: &str, cut: bool, delimiter: u8, quotes: Quotes) -> (Vec<Vec<String>>, bool) {
    let (mut parser, mut found) = (Rows::new(text.as_bytes(), delimiter, quotes), Vec::new());
    let sound = loop {
        match parser.next() {
            Ok(Some(_)) if found.len() == ROWS => return (found, true),
            Ok(Some(_)) => found.push(parser.iter().map(str::to_string).collect()),
            Ok(None) => break true,
            Err(Fault::Unclosed { .. }) => return (found, cut),
            Err(_) => break false,
        }
    };
    if cut && sound && found.len() > 1 {
        found.pop();
    }
    (found, sound)
}

/// Reads the sample with that delimiter, with quotes as they have to be.
fn tried(text: &str, cut: bool, delimiter: u8, given: Option<Quotes>) -> Tried {
    let with = |quotes| {
        let (rows, sound) = rows(text, cut, delimiter, quotes);
        (Tried { delimiter, quotes, rows }, sound)
    };
    if let Some(quotes) = given {
        return with(quotes).0;
    }
    let (enclosed, sound) = with(Quotes::Enclose);
    if text.contains("\\\"") && !(sound && enclosed.is_even()) {
        let (escaped, sound) = with(Quotes::Backslash);
        if sound && escaped.is_even() {
            return escaped;
        }
    }
    enclosed
}

/// The layout of a file that is, or may be, a table. `preset`: delimiter and header as a format's
/// name has them.
///
/// # Errors
/// A table by its name or by the user's word whose columns cannot be told; the text cannot be read.
pub(super) fn of(look: &Look, preset: Option<(u8, bool)>) -> Result<Option<Layout>> {
    let options = look.options;
    let (first, rest) = look.text().split_once('\n').unwrap_or((look.text(), ""));
    let separator = separator_line(first.trim_end_matches('\r'));
    let text = if separator.is_some() { rest } else { look.text() };
    let by_name = [(".csv", b','), (".tsv", b'\t'), (".tab", b'\t'), (".psv", b'|')]
        .into_iter()
        .find_map(|(ending, delimiter)| look.base.ends_with(ending).then_some(delimiter));
    let natural = preset.map(|(delimiter, _)| delimiter).or(by_name);
    let said = options.delimiter.or(separator);
    let candidates: Vec<u8> = match (said, natural) {
        (Some(one), _) => vec![one],
        (None, Some(first)) => std::iter::once(first).chain(DELIMITERS.into_iter().filter(|d| *d != first)).collect(),
        (None, None) => DELIMITERS.to_vec(),
    };
    let all: Vec<Tried> =
        candidates.iter().map(|&delimiter| tried(text, look.is_cut(), delimiter, options.quotes)).collect();
    let must = preset.is_some() || by_name.is_some() || said.is_some() || options.header.is_some();
    let header = options.header.or(preset.map(|(_, header)| header));
    let Some((tried, header)) = choose(look, &all, header, must)? else { return Ok(None) };
    let mut quotes = tried.quotes;
    if tried.delimiter == b'\t'
        && options.quotes.is_none()
        && quotes == Quotes::Enclose
        && !enclosing(look, separator.is_some())?
    {
        quotes = Quotes::Characters;
    }
    let separator_line = separator.is_some();
    let labelled = columns_of(&look.columns, &tried.first(), header).is_ok_and(|(_, label)| label.is_some());
    Ok(Some(Layout {
        labelled,
        delimiter: tried.delimiter,
        header,
        quotes,
        quotes_given: options.quotes.is_some(),
        separator_line,
    }))
}

/// The reading of the sample that makes sense, and whether its first row is a header.
fn choose<'t>(look: &Look, all: &'t [Tried], header: Option<bool>, must: bool) -> Result<Option<(&'t Tried, bool)>> {
    let columns = &look.columns;
    let wide = |t: &&Tried| t.width() > 1;
    let natural = &all[0];
    if let Some(header) = header {
        // the flags or the format say what the first row is; the delimiter is left to find
        let fits = |t: &&Tried| header && t.width() > 1 && columns.fits_header(&t.first());
        let found = all.iter().find(fits).or_else(|| all.iter().find(|t| wide(t) && t.is_even()));
        return Ok(Some((found.or_else(|| all.iter().find(wide)).unwrap_or(natural), header)));
    }
    let headed = |t: &&Tried| {
        columns.fits_header(&t.first()) && columns.resolve(&t.first()).is_ok() && !is_first_text(t, columns)
    };
    let whole = |cell: &str| cell.trim().parse::<i64>().is_ok();
    // whole numbers to the end of the sample, but for rows that are faulty: they are told later
    let class_first = |t: &&Tried| {
        let numbers = t.rows.iter().filter(|row| whole(&row[0])).count();
        t.width() > 1 && whole(t.first()[0]) && numbers * 10 >= t.rows.len() * 9
    };
    let numbered = |t: &&Tried| t.width() > 1 && t.width() >= columns.largest();
    if must {
        if let Some(found) = all.iter().filter(wide).find(headed).or_else(|| all.iter().find(headed)) {
            return Ok(Some((found, true)));
        }
        if columns.are_named() {
            // which is missing is told when the columns are looked for
            return Ok(Some((all.iter().find(wide).unwrap_or(natural), true)));
        }
        if columns.are_given() {
            let found = all.iter().find(|t| numbered(t) && t.is_even()).or_else(|| all.iter().find(numbered));
            let found = found.unwrap_or(natural);
            return Ok(Some((found, is_header(look, found)?)));
        }
        let found = all.iter().find(|t| class_first(t) && t.is_even()).or_else(|| all.iter().find(class_first));
        if let Some(found) = found {
            refuse_other_first_columns(look, found)?;
            return Ok(Some((found, false)));
        }
        if natural.width() > 1 && columns.fits_header(&natural.first()) && !is_first_text(natural, columns) {
            // told with what it has when the columns are looked for
            return Ok(Some((natural, true)));
        }
        if let Some(found) = all.iter().find(|t| is_numbering(&t.first())) {
            return Err(numbering(look, &found.first()));
        }
        let shown = all.iter().find(|t| wide(t) && t.is_even()).or_else(|| all.iter().find(wide)).unwrap_or(natural);
        let message =
            format!("is neither a header with known names nor a row with the class first: {}", list(&shown.first()));
        let hint = if shown.width() > 1 {
            if look.options.role == Role::Dataset {
                "name or number the columns: --text-column 1 --label-column 2; --header yes or no says what the first row is"
            } else {
                "name or number the column: --text-column 1; --header yes or no says what the first row is"
            }
        } else {
            "say what stands between the columns with --delimiter, or read it line by line with --format plain"
        };
        return Err(Error::line(look.name, 1, message).hint(hint));
    }
    // a table under another name: a known header, quoted fields with the class first, or columns
    // that the user knows of
    let quoted = |t: &&Tried| look.text().starts_with('"') && class_first(t);
    let table = |t: &&Tried| t.width() > 1 && t.rows.len() > 1 && t.is_even();
    // a header that names text and label is one, even if rows are not as wide as it is: that is
    // told when they are read; one that names a text alone could be the first line of a text
    let complete = |t: &&Tried| headed(t) && columns.resolve(&t.first()).is_ok_and(|(_, label)| label.is_some());
    let names = |t: &&Tried| {
        let first = t.first();
        columns.are_named() || first[1..].iter().all(|cell| !cell.starts_with(' ') && cell.split(' ').count() < 4)
    };
    let more = |t: &&Tried| t.width() > 1 && t.rows.len() > 1;
    let found = all.iter().find(|t| table(t) && complete(t));
    let found = found.or_else(|| all.iter().find(|t| more(t) && complete(t)));
    if let Some(found) = found.or_else(|| all.iter().find(|t| table(t) && headed(t) && names(t))) {
        return Ok(Some((found, true)));
    }
    if columns.are_given() && !columns.are_named() {
        return match all.iter().find(|t| table(t) && numbered(t)) {
            Some(found) => Ok(Some((found, is_header(look, found)?))),
            None => Ok(None),
        };
    }
    Ok(all.iter().find(|t| table(t) && quoted(t)).map(|found| (found, false)))
}

/// Whether a first row that could be a header is a document by what stands below it: its one known
/// name, that of a text, is a word of a class. The name comes again in its column; or that column
/// has single words, and another cell of the row is a text among texts.
fn is_first_text(tried: &Tried, columns: &Columns) -> bool {
    let first = tried.first();
    if columns.are_given() || first.len() < 2 || tried.rows.len() < 2 {
        return false;
    }
    let Ok((texts, None)) = columns.resolve(&first) else { return false };
    // a row that is the header again is told when it is read
    let below = || tried.rows[1..].iter().filter(|row| **row != tried.rows[0]);
    let cells = |c: usize| below().filter_map(move |row| row.get(c)).map(|cell| cell.trim());
    let words = |cell: &str| cell.split_whitespace().count();
    let most_have_many = |c: usize| cells(c).filter(|cell| words(cell) > 1).count() * 2 > cells(c).count();
    texts.iter().any(|&named| {
        let again = cells(named).any(|cell| cell.eq_ignore_ascii_case(first[named].trim()));
        let is_word = below().next().is_some() && cells(named).all(|cell| words(cell) < 2);
        again || is_word && (0..first.len()).any(|c| c != named && words(first[c]) > 1 && most_have_many(c))
    })
}

/// Whether a row counts the columns from 0, as programs do that have no names for them.
fn is_numbering(row: &[&str]) -> bool {
    row.len() > 1 && row.iter().enumerate().all(|(i, cell)| cell.trim() == i.to_string())
}

fn numbering(look: &Look, first: &[&str]) -> Error {
    let message = format!("may count the columns or be data: {}", list(first));
    Error::line(look.name, 1, message).hint("say --header yes (the columns have these numbers as names) or --header no")
}

/// # Errors
/// The first column need not be the class: the row counts the columns, or another column has the
/// words of few classes.
fn refuse_other_first_columns(look: &Look, tried: &Tried) -> Result<()> {
    let first = tried.first();
    if is_numbering(&first) {
        return Err(numbering(look, &first));
    }
    if first.len() < 3 || tried.rows.len() < 4 {
        return Ok(());
    }
    let words_of_classes = |c: usize| {
        let mut cells: Vec<&str> = tried.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.trim()).collect();
        let (count, word) = (cells.len(), |cell: &&str| !cell.is_empty() && cell.len() <= 20 && !cell.contains(' '));
        let words = cells.iter().all(word);
        cells.sort_unstable();
        cells.dedup();
        words && cells.len() > 1 && cells.len() * 2 <= count && count == tried.rows.len()
    };
    match (1..first.len()).find(|&c| words_of_classes(c)) {
        Some(c) => {
            Err(Error::line(look.name, 1, format!("has no names, and columns 1 and {} could be the class", c + 1))
                .hint("number the columns: --label-column 2 --text-column 3"))
        }
        None => Ok(()),
    }
}

/// Whether the first row names the columns, where the user gives numbers.
///
/// # Errors
/// The rows do not decide it.
fn is_header(look: &Look, tried: &Tried) -> Result<bool> {
    let columns = &look.columns;
    let first = tried.first();
    if first.is_empty() || (columns.fits_header(&first) && !is_first_text(tried, columns)) {
        return Ok(!first.is_empty());
    }
    if is_numbering(&first) {
        return Err(numbering(look, &first));
    }
    // a header that comes again is no sign of data: files were put one after the other
    let rest: Vec<&Vec<String>> = tried.rows[1..].iter().filter(|row| **row != tried.rows[0]).collect();
    let cells = |c: usize| rest.iter().filter_map(move |row| row.get(c)).map(|cell| cell.trim());
    let Ok((texts, label)) = columns.by_number(first.len().max(columns.largest())) else { return Ok(false) };
    let named: Vec<usize> = (0..first.len()).filter(|&c| !first[c].trim().is_empty()).collect();
    let others = || named.iter().copied().filter(|c| !texts.contains(c));
    let is_number = |cell: &str| cell.parse::<f64>().is_ok();
    let words = |cell: &str| cell.split_whitespace().count();
    let read: Vec<usize> = texts.iter().copied().chain(label).filter(|c| named.contains(c)).collect();
    // a name of a text or label is one, even among numbers
    let is_known =
        |&c: &usize| Columns::is_known(first[c]) && !cells(c).any(|cell| cell.eq_ignore_ascii_case(first[c].trim()));
    if named.iter().any(is_known) && first.iter().any(|cell| is_number(cell.trim())) {
        return Ok(true);
    }
    // a value of a class comes again, and a number names nothing that is read
    let again = others().any(|c| cells(c).any(|cell| cell == first[c].trim()));
    let sentence = |cell: &str| words(cell) > 4 || cell.ends_with(['.', '!', '?', ',', ';', ':']) || cell.len() > 64;
    if again || read.iter().any(|&c| is_number(first[c].trim())) || named.iter().any(|&c| sentence(first[c].trim())) {
        return Ok(false);
    }
    let mut distinct = named.iter().map(|&c| first[c].trim()).collect::<Vec<_>>();
    distinct.sort_unstable();
    let doubled = distinct.windows(2).any(|pair| pair[0] == pair[1]);
    // the rows below have another form: numbers, classes that come again, texts of more words
    let numbers = others().any(|c| rest.len() > 1 && cells(c).all(is_number));
    let classes = label.is_some_and(|c| {
        let mut all: Vec<&str> = cells(c).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        count > 2 && all.len() * 2 <= count
    });
    let longer = texts.iter().any(|&c| {
        let mut lengths: Vec<usize> = cells(c).map(words).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).is_some_and(|median| *median > 1)
    });
    let single = named.len() > 1 && named.iter().all(|&c| words(first[c]) == 1);
    if !doubled && (numbers || classes || (longer && single)) {
        return Ok(true);
    }
    if rest.is_empty() || !doubled {
        let message = format!("it cannot be told whether the first row names the columns: {}", list(&first));
        return Err(Error::line(look.name, 1, message).hint("say --header yes or --header no"));
    }
    Ok(false)
}

/// Whether quotes enclose the fields of a TSV file: some do, all are in order to the end of the
/// file, rows are even with them, and none takes in what looks like rows. A single quote out of
/// order proves that quotes are characters. Where every field is in quotes, whatever is within them
/// is meant, and rows that are not even are told when they are read.
///
/// # Errors
/// Both readings give even rows, and differ in their number.
fn enclosing(look: &Look, separator_line: bool) -> Result<bool> {
    let Some(mut reader) = look.open_where_quoted()? else { return Ok(false) };
    let layout = Layout { separator_line, ..NONE };
    if skip_separator_line(&mut reader, layout).is_err() {
        return Ok(false); // told when it is read
    }
    let mut rows = Rows::new(reader, b'\t', Quotes::Enclose);
    let (mut width, mut any, mut all, mut even, mut swallowed) = (None, false, true, true, None);
    loop {
        match rows.next() {
            Ok(None) => match swallowed.filter(|_| any && !all) {
                None => return Ok(any),
                Some(_) if !is_even_with_quotes_as_characters(look, layout)? => return Ok(true),
                Some(line) => {
                    let message = "a quoted field holds what looks like a row, or its quotes are characters";
                    return Err(Error::line(look.name, line, message)
                        .hint("--quotes yes: quotes enclose fields; --quotes no: they are characters"));
                }
            },
            Ok(Some(line)) => {
                let n = *width.get_or_insert(rows.len());
                even &= rows.len() == n;
                any |= rows.quoted() > 0;
                all &= rows.quoted() == rows.len();
                if !even && !all {
                    return Ok(false);
                }
                let is_row = |line: &[u8]| n > 1 && line.iter().filter(|&&b| b == b'\t').count() + 1 == n;
                if swallowed.is_none()
                    && rows.has_many_lines()
                    && (0..rows.len()).any(|i| rows.bytes_of(i).split(|&b| b == b'\n').any(is_row))
                {
                    swallowed = Some(line + u64::from(separator_line));
                }
            }
            Err(Fault::Read(_)) => return Ok(any), // told when it is read
            Err(_) => return Ok(false),
        }
    }
}

fn is_even_with_quotes_as_characters(look: &Look, layout: Layout) -> Result<bool> {
    let Some(mut reader) = look.open_where_quoted()? else { return Ok(true) };
    if skip_separator_line(&mut reader, layout).is_err() {
        return Ok(true); // told when it is read
    }
    let (mut rows, mut width) = (Rows::new(reader, b'\t', Quotes::Characters), None);
    loop {
        match rows.next() {
            Ok(Some(_)) if *width.get_or_insert(rows.len()) == rows.len() => {}
            Ok(Some(_)) => return Ok(false),
            Ok(None) | Err(_) => return Ok(true),
        }
    }
}

/// In words: the kind of table, and which columns are read.
pub(super) fn describe(look: &Look, layout: Layout) -> String {
    let text =
        if layout.separator_line { look.text().split_once('\n').map_or("", |(_, rest)| rest) } else { look.text() };
    let (rows, _) = rows(text, look.is_cut(), layout.delimiter, layout.quotes);
    layout.describe(rows.first().map(Vec::as_slice).unwrap_or_default(), &look.columns)
}

/// Takes the first line of a table off, where it is the word on its delimiter.
pub(super) fn skip_separator_line(reader: &mut impl BufRead, layout: Layout) -> std::io::Result<()> {
    if layout.separator_line {
        reader.read_until(b'\n', &mut Vec::new())?;
    }
    Ok(())
}
