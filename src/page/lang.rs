//! The languages visitors are spoken to in.

/// A language the waiting page speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lang {
    /// Korean.
    Ko,
    /// English (default).
    En,
}

impl Lang {
    /// The BCP 47 tag: `ko` or `en`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }

    /// The visitor's choice from `Accept-Language` (RFC 9110, 12.5.4): the language with the highest quality,
    /// the first named of equals. English where the header is absent, names neither, or makes no sense.
    ///
    /// Only the first 32 ranges are read: browsers send a handful.
    pub fn from_accept_language(header: Option<&str>) -> Self {
        let mut best = (Self::En, 0);
        for range in header.unwrap_or_default().split(',').take(32) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let primary = tag.split('-').next().unwrap_or_default();
            let lang = match primary {
                _ if primary.eq_ignore_ascii_case("ko") => Self::Ko,
                _ if primary.eq_ignore_ascii_case("en") => Self::En,
                _ => continue,
            };
            let quality = match parts.map(str::trim).find_map(quality_value) {
                None => 1_000,
                Some(Ok(quality)) => quality,
                Some(Err(())) => continue,
            };
            if quality > best.1 {
                best = (lang, quality);
            }
        }
        best.0
    }
}

/// The value of a `q=` parameter in thousandths; `None` for other parameters.
fn quality_value(parameter: &str) -> Option<Result<u32, ()>> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    let thousandths = match whole {
        "0" | "1" if digits => format!("{whole}{decimals:0<3}").parse().map_err(|_| ()),
        _ => Err(()),
    };
    Some(thousandths.and_then(|quality| if quality <= 1_000 { Ok(quality) } else { Err(()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_quality_wins() {
        let cases = [
            (None, Lang::En),
            (Some(""), Lang::En),
            (Some("*"), Lang::En),
            (Some("ko"), Lang::Ko),
            (Some("KO-kr"), Lang::Ko),
            (Some("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"), Lang::Ko),
            (Some("en-US,en;q=0.9,ko;q=0.8"), Lang::En),
            (Some("fr, ko;q=0.3, de;q=0.9"), Lang::Ko),
            (Some("fr, de;q=0.9"), Lang::En),
            (Some("en;q=0.5, ko;q=0.501"), Lang::Ko),
            (Some("ko, en"), Lang::Ko),
            (Some("en, ko"), Lang::En),
            (Some("ko;q=0"), Lang::En),
            (Some("ko;q=0, en;q=0.1"), Lang::En),
            (Some("ko ; q = 0.8 , en;q=0.2"), Lang::Ko),
            (Some("kok, kore"), Lang::En),
        ];
        for (header, expected) in cases {
            assert_eq!(Lang::from_accept_language(header), expected, "{header:?}");
        }
    }

    #[test]
    fn nonsense_is_english_and_bounded() {
        for header in [";;;,,,", "ko;q=", "ko;q=2", "ko;q=1.001", "ko;q=-1", "ko;q=0.1234", "ko;q=a", "\u{0}"]
        {
            assert_eq!(Lang::from_accept_language(Some(header)), Lang::En, "{header:?}");
        }
        let long = "fr,".repeat(100_000) + "ko";
        assert_eq!(Lang::from_accept_language(Some(&long)), Lang::En);
    }
}
