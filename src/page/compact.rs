//! Our own style and script as visitors get them: shorter, because every waiting answer carries both.
//!
//! Not minifiers: enough for the files of `web/`, which keep comments on lines of their own, no text across lines,
//! and no spaces that matter beside punctuation in the style.

/// Without indentation, empty lines and lines that only comment.
pub(crate) fn script(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let kept = lines.filter(|line| {
        let comment = line.starts_with("//") || (line.starts_with("/*") && line.ends_with("*/"));
        !line.is_empty() && !comment
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Like [`script`], and without the spaces that CSS does not need.
pub(super) fn style(source: &str) -> String {
    let needless = [
        ("{\n", "{"),
        ("}\n", "}"),
        (";\n", ";"),
        (",\n", ","),
        (": ", ":"),
        ("; ", ";"),
        (", ", ","),
        (" {", "{"),
        ("{ ", "{"),
        (" }", "}"),
        (";}", "}"),
    ];
    needless.iter().fold(script(source), |style, (long, short)| style.replace(long, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_line_comments_are_dropped() {
        assert_eq!(script("// a\n  b; // c\n\n/* d */\ne\n"), "b; // c\ne\n");
    }

    #[test]
    fn a_style_keeps_its_meaning() {
        let style = style("/* why */\n@media (x: y) {\n  a b, p > q:not(.c) { d: e f, g; h: i }\n}\n");
        assert_eq!(style, "@media (x:y){a b,p > q:not(.c){d:e f,g;h:i}}");
    }
}
