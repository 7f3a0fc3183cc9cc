//! The frame of every page: one file that needs nothing outside of itself, with and without
//! scripts.

use super::plots::escape;

const STYLE: &str = include_str!("report.css");
/// Draws curves to point at: uPlot, as its authors give it (`uplot/README.md`).
const UPLOT: &str = include_str!("uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("uplot/LICENSE");
/// What lays them over the static pictures.
const CHARTS: &str = include_str!("charts.js");

/// A page with this content; scripts come where it has charts. It may load nothing: the browser is
/// told so as well.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    let (style, script) = if body.contains("<script type=\"application/json\">") {
        (UPLOT_STYLE, format!("<script>\n/*\n{UPLOT_LICENCE}*/\n{UPLOT}\n{CHARTS}</script>\n"))
    } else {
        ("", String::new())
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{style}\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n\
         {script}</body>\n</html>\n"
    )
}

/// Text without what was written by others: uPlot and its licence.
#[cfg(test)]
pub(super) fn own(page: &str) -> String {
    [UPLOT, UPLOT_STYLE, UPLOT_LICENCE].iter().fold(page.to_string(), |page, part| page.replace(part, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    /// What lies in `uplot/` is what was looked at, byte for byte; its README names the same sums.
    #[test]
    fn uplot_is_the_file_that_was_recorded() {
        let readme = include_str!("uplot/README.md");
        for (name, text) in [("uPlot.iife.min.js", UPLOT), ("uPlot.min.css", UPLOT_STYLE), ("LICENSE", UPLOT_LICENCE)] {
            let sum = files::hex(&files::sha256(text.as_bytes()));
            assert!(readme.contains(&format!("| `{name}` | `{sum}` |")), "{name}: {sum}");
        }
        assert!(UPLOT_LICENCE.contains("MIT License"));
        // text within a script may not end it, nor its comment
        assert!(![UPLOT, CHARTS, UPLOT_LICENCE].iter().any(|text| text.contains("</script")));
        assert!(!UPLOT_LICENCE.contains("*/"));
    }

    #[test]
    fn scripts_come_with_charts_alone() {
        assert!(!page("t", "<p>text</p>").contains("<script"));
        let with = page("t", "<script type=\"application/json\">{}</script>");
        assert!(with.contains(UPLOT) && with.contains(UPLOT_LICENCE) && with.contains("default-src 'none'"));
        assert!(!own(&with).contains("https:") && !own(&with).contains("http:"));
    }
}
