//! The tables of the word tokenizer, all in this file: versions, what the text rules replace and
//! mark (docs/SPEC.md §2.1 and §2.2), and for English the characters that are cut off words, units,
//! and words with a reading of their own.
//!
//! The English tables reproduce what spaCy's blank English pipeline (the tokenizer of the fastai
//! versions) does. A change here is a new [`TABLES_VERSION`]: a vocabulary records the one it was
//! made with.

use super::Rules;

/// Version of the text rules and the English tables; a vocabulary records the one it was made with.
pub const TABLES_VERSION: &str = "en-1";

/// The same for languages other than English, where words are found by Unicode's word boundaries:
/// text rules and the version of Unicode.
pub const UNICODE_TABLES_VERSION: &str = "unicode-17.0.0-1";

/// The rules of a rule set for a text before it is cut into words; `rules.rs` has their order.
pub(super) struct RuleTable {
    /// Literal replacements (`fixup`, `fix_html`), in order, after [`REPLACE_COMMON`].
    pub(super) replace: &'static [(&'static str, &'static str)],
    /// So many equal characters are a repetition; its mark.
    pub(super) repetition: usize,
    pub(super) repetition_mark: &'static str,
    /// Mark of repeated words.
    pub(super) word_mark: &'static str,
    /// Characters that get a space on both sides.
    pub(super) spaced: &'static [u8],
    /// Mark of words in capitals; mark of a word that begins with a capital, if there is one.
    pub(super) upper_mark: &'static str,
    pub(super) capital_mark: Option<&'static str>,
}

/// Literal replacements that all rule sets begin with.
pub(super) const REPLACE_COMMON: &[(&str, &str)] = &[
    ("#39;", "'"),
    ("amp;", "&"),
    ("#146;", "'"),
    ("nbsp;", " "),
    ("#36;", "$"),
    ("\\n", "\n"),
    ("quot;", "'"),
    ("<br />", "\n"),
    ("\\\"", "\""),
];

/// docs/SPEC.md §2.1
const RULES_V07: RuleTable = RuleTable {
    replace: &[("<unk>", "u_n"), (" @.@ ", "."), (" @-@ ", "-"), ("\\", " \\ ")],
    repetition: 4,
    repetition_mark: "tk_rep",
    word_mark: "tk_wrep",
    spaced: b"/#",
    upper_mark: "t_up",
    capital_mark: None,
};

/// docs/SPEC.md §2.2
const RULES_V1: RuleTable = RuleTable {
    replace: &[("<unk>", "xxunk"), (" @.@ ", "."), (" @-@ ", "-"), (" @,@ ", ","), ("\\", " \\ ")],
    repetition: 4,
    repetition_mark: "xxrep",
    word_mark: "xxwrep",
    spaced: b"/#\n",
    upper_mark: "xxup",
    capital_mark: Some("xxmaj"),
};

/// docs/SPEC.md §2.2
const RULES_V2: RuleTable = RuleTable {
    replace: &[("<unk>", "xxunk"), (" @.@ ", "."), (" @-@ ", "-"), ("...", " …")],
    repetition: 3,
    repetition_mark: "xxrep",
    word_mark: "xxwrep",
    spaced: b"/#\\",
    upper_mark: "xxup",
    capital_mark: Some("xxmaj"),
};

impl Rules {
    pub(super) fn table(self) -> &'static RuleTable {
        match self {
            Rules::V07 => &RULES_V07,
            Rules::V1 => &RULES_V1,
            Rules::V2 => &RULES_V2,
        }
    }
}

/// Cut off before and after a word: punctuation, quotation marks.
pub(super) fn is_punctuation(c: char) -> bool {
    "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪".contains(c)
}

/// Quotation marks and brackets of several scripts.
pub(super) fn is_quote(c: char) -> bool {
    "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧".contains(c)
}

/// Cut off before a word only.
pub(super) fn is_lead(c: char) -> bool {
    "§%=—–".contains(c)
}

/// Currency signs of one character.
pub(super) fn is_currency(c: char) -> bool {
    matches!(c, '$' | '£' | '¥' | '฿' | '﷼' | '\u{20a0}'..='\u{20bf}')
}

/// Currency signs of several characters.
pub(super) const CURRENCY_NAMES: &[&str] = &["US$", "C$", "A$"];

/// Possessives cut off after a word.
pub(super) const POSSESSIVES: &[&str] = &["'s", "'S", "’s", "’S"];

/// Units cut off after a digit.
pub(super) const UNITS: &[&str] = &[
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha", "µm", "nm",
    "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa", "Pa", "mbar", "mb",
    "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%",
];

/// Hyphens that part two letters.
pub(super) const HYPHENS: &[&str] = &["---", "--", "——", "-", "–", "—", "~"];

/// Unicode category So (symbols, emoji), as ranges; unassigned code points between two symbols are
/// included.
const ICONS: &[(u32, u32)] = &[
    (0xa6, 0xa6),
    (0xa9, 0xa9),
    (0xae, 0xae),
    (0xb0, 0xb0),
    (0x482, 0x482),
    (0x58d, 0x58e),
    (0x60e, 0x60f),
    (0x6de, 0x6de),
    (0x6e9, 0x6e9),
    (0x6fd, 0x6fe),
    (0x7f6, 0x7f6),
    (0x9fa, 0x9fa),
    (0xb70, 0xb70),
    (0xbf3, 0xbf8),
    (0xbfa, 0xbfa),
    (0xc7f, 0xc7f),
    (0xd4f, 0xd4f),
    (0xd79, 0xd79),
    (0xf01, 0xf03),
    (0xf13, 0xf13),
    (0xf15, 0xf17),
    (0xf1a, 0xf1f),
    (0xf34, 0xf34),
    (0xf36, 0xf36),
    (0xf38, 0xf38),
    (0xfbe, 0xfc5),
    (0xfc7, 0xfcf),
    (0xfd5, 0xfd8),
    (0x109e, 0x109f),
    (0x1390, 0x1399),
    (0x166d, 0x166d),
    (0x1940, 0x1940),
    (0x19de, 0x19ff),
    (0x1b61, 0x1b6a),
    (0x1b74, 0x1b7c),
    (0x2100, 0x2101),
    (0x2103, 0x2106),
    (0x2108, 0x2109),
    (0x2114, 0x2114),
    (0x2116, 0x2117),
    (0x211e, 0x2123),
    (0x2125, 0x2125),
    (0x2127, 0x2127),
    (0x2129, 0x2129),
    (0x212e, 0x212e),
    (0x213a, 0x213b),
    (0x214a, 0x214a),
    (0x214c, 0x214d),
    (0x214f, 0x214f),
    (0x218a, 0x218b),
    (0x2195, 0x2199),
    (0x219c, 0x219f),
    (0x21a1, 0x21a2),
    (0x21a4, 0x21a5),
    (0x21a7, 0x21ad),
    (0x21af, 0x21cd),
    (0x21d0, 0x21d1),
    (0x21d3, 0x21d3),
    (0x21d5, 0x21f3),
    (0x2300, 0x2307),
    (0x230c, 0x231f),
    (0x2322, 0x2328),
    (0x232b, 0x237b),
    (0x237d, 0x239a),
    (0x23b4, 0x23db),
    (0x23e2, 0x244a),
    (0x249c, 0x24e9),
    (0x2500, 0x25b6),
    (0x25b8, 0x25c0),
    (0x25c2, 0x25f7),
    (0x2600, 0x266e),
    (0x2670, 0x2767),
    (0x2794, 0x27bf),
    (0x2800, 0x28ff),
    (0x2b00, 0x2b2f),
    (0x2b45, 0x2b46),
    (0x2b4d, 0x2bff),
    (0x2ce5, 0x2cea),
    (0x2e50, 0x2e51),
    (0x2e80, 0x2ffb),
    (0x3004, 0x3004),
    (0x3012, 0x3013),
    (0x3020, 0x3020),
    (0x3036, 0x3037),
    (0x303e, 0x303f),
    (0x3190, 0x3191),
    (0x3196, 0x319f),
    (0x31c0, 0x31e3),
    (0x3200, 0x321e),
    (0x322a, 0x3247),
    (0x3250, 0x3250),
    (0x3260, 0x327f),
    (0x328a, 0x32b0),
    (0x32c0, 0x33ff),
    (0x4dc0, 0x4dff),
    (0xa490, 0xa4c6),
    (0xa828, 0xa82b),
    (0xa836, 0xa837),
    (0xa839, 0xa839),
    (0xaa77, 0xaa79),
    (0xfd40, 0xfd4f),
    (0xfdcf, 0xfdcf),
    (0xfdfd, 0xfdff),
    (0xffe4, 0xffe4),
    (0xffe8, 0xffe8),
    (0xffed, 0xffee),
    (0xfffc, 0xfffd),
    (0x10137, 0x1013f),
    (0x10179, 0x10189),
    (0x1018c, 0x101fc),
    (0x10877, 0x10878),
    (0x10ac8, 0x10ac8),
    (0x1173f, 0x1173f),
    (0x11fd5, 0x11fdc),
    (0x11fe1, 0x11ff1),
    (0x16b3c, 0x16b3f),
    (0x16b45, 0x16b45),
    (0x1bc9c, 0x1bc9c),
    (0x1cf50, 0x1d164),
    (0x1d16a, 0x1d16c),
    (0x1d183, 0x1d184),
    (0x1d18c, 0x1d1a9),
    (0x1d1ae, 0x1d241),
    (0x1d245, 0x1d245),
    (0x1d300, 0x1d356),
    (0x1d800, 0x1d9ff),
    (0x1da37, 0x1da3a),
    (0x1da6d, 0x1da74),
    (0x1da76, 0x1da83),
    (0x1da85, 0x1da86),
    (0x1e14f, 0x1e14f),
    (0x1ecac, 0x1ecac),
    (0x1ed2e, 0x1ed2e),
    (0x1f000, 0x1f0f5),
    (0x1f10d, 0x1f3fa),
    (0x1f400, 0x1faf6),
];

/// Symbols, dingbats, emoji.
pub(super) fn is_icon(c: char) -> bool {
    !c.is_ascii() && within(ICONS, c)
}

/// Letters without case, by script: Hebrew, Arabic, Indic scripts, Hangul, Chinese and Japanese
/// ideographs.
const UNCASED: &[(u32, u32)] = &[
    (0x591, 0x5f4),
    (0x620, 0x64a),
    (0x66e, 0x6d5),
    (0x6e5, 0x6ff),
    (0x750, 0x77f),
    (0x8a0, 0x8bd),
    (0x900, 0x97f),
    (0x980, 0x9ff),
    (0xb80, 0xdff),
    (0x1100, 0x11ff),
    (0x2e80, 0x2fdf),
    (0x2ff0, 0x303f),
    (0x31c0, 0x31ef),
    (0x3200, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xac00, 0xd7af),
    (0xf900, 0xfaff),
    (0xfb1d, 0xfb4f),
    (0xfb50, 0xfbb1),
    (0xfbd3, 0xfd3d),
    (0xfd50, 0xfdc7),
    (0xfdf0, 0xfdfb),
    (0xfe30, 0xfe4f),
    (0xfe70, 0xfefc),
    (0x20000, 0x2fa1f),
];

/// Letters with case: Latin, Greek, Cyrillic.
const CASED: &[(u32, u32)] = &[
    (0x41, 0x5a),
    (0x61, 0x7a),
    (0xc0, 0xd6),
    (0xd8, 0xf6),
    (0xf8, 0x1bf),
    (0x1c4, 0x2af),
    (0x386, 0x386),
    (0x388, 0x3ce),
    (0x400, 0x45f),
    (0x490, 0x497),
    (0x4a2, 0x4a3),
    (0x4ae, 0x4af),
    (0x4ba, 0x4bb),
    (0x4d8, 0x4d9),
    (0x4e8, 0x4e9),
    (0x1d00, 0x1d25),
    (0x1d6b, 0x1d77),
    (0x1d79, 0x1d9a),
    (0x1e00, 0x1fff),
    (0x2c60, 0x2c7f),
    (0xa722, 0xa78e),
    (0xa790, 0xa7b9),
    (0xa7fa, 0xa7fa),
    (0xab30, 0xab64),
    (0xff21, 0xff3a),
    (0xff41, 0xff5a),
];

fn within(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= ranges[after - 1].1
}

pub(super) fn is_alpha(c: char) -> bool {
    c.is_ascii_alphabetic() || !c.is_ascii() && (within(CASED, c) || within(UNCASED, c))
}

/// A letter that is not upper case.
pub(super) fn is_lower(c: char) -> bool {
    c.is_ascii_lowercase() || !c.is_ascii() && is_alpha(c) && !c.is_uppercase()
}

/// A letter that is not lower case.
pub(super) fn is_upper(c: char) -> bool {
    c.is_ascii_uppercase() || !c.is_ascii() && is_alpha(c) && !c.is_lowercase()
}

/// Words, each also with a capital, and the endings that make a contraction with them; `|` parts
/// tokens.
pub(super) const CONTRACTIONS: &[(&str, &str)] = &[
    ("i", "'m m 'm|a m|a"),
    ("i you he she it we they", "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"),
    ("i you we they", "'ve ve"),
    ("you we they", "'re re"),
    ("he she it", "'s s"),
    ("who what when where why how there that this", "'s s"),
    ("who what when where why how there that this these those", "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"),
    ("who what when where why how there these those", "'re re 've ve"),
    ("ca could do does did had may might must need ought sha should wo would", "n't nt n't|'ve nt|ve"),
    ("could might must should would", "'ve ve"),
    ("ai are is was were have has dare", "n't nt"),
];

/// Words that the table above would split but that stay whole; with a capital too.
pub(super) const NOT_CONTRACTIONS: &str = "ill its hell shell shed were well whore";

/// Words with a reading of their own, also with a capital.
pub(super) const SPLIT: &str = "how|'d|'y not|'ve not|ve can|not gon|na got|ta let|'s c'm|on";

/// As above, in this form only; the times of day are made from [`HOURS`].
pub(super) const SPLIT_EXACT: &str = "y'|all y|all";
pub(super) const HOURS: &str = "a.m. am p.m. pm";

/// Kept whole, also with a capital.
pub(super) const WHOLE: &str = "doin doin' goin goin' nothin nothin' nuthin nuthin' ol ol' somethin somethin' ma'am o'clock \
    lovin lovin' havin havin'";

/// Kept whole in this form.
pub(super) const WHOLE_EXACT: &str = "em 'em ll 'll nuff 'nuff 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz \
    'cuz 'Cuz 'bout 'd Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. \
    Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. \
    Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. \
    I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. ' '' \\\") <space> \
    C++ — \\t \\n a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.";

/// Faces made of characters, kept whole.
pub(super) const EMOTICONS: &str = ":) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) \
    (-8 ;) ;-) (; (-; :( :-( :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p \
    :-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ \
    ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 \
    <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>";

/// Marks that the rules of fastai 0.7 keep whole.
pub(super) const WHOLE_V07: &str = "<eos> <bos> <unk>";
