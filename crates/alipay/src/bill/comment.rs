use payment::BillDay;

use super::LineFault;
use super::footer::FooterLine;

/// What a line that begins with `#` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comment {
    /// `#账号：[20880000000000000156]`
    Account(String),
    /// `#起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]`
    Period { from: BillDay, to: BillDay },
    /// `#-----业务明细列表结束-----`
    EndOfList,
    /// `#交易合计：…`
    Payments(FooterLine),
    /// `#退款合计：…`
    Refunds(FooterLine),
    /// Nothing that is needed: the beginning of the list, the time of export, what is not known.
    Other,
}

impl Comment {
    pub(super) fn read(text: &str) -> Result<Self, LineFault> {
        let text = normalised(text);
        let text = text.trim_start_matches('#').trim_start();
        if let Some(rest) = text.strip_prefix("账号:") {
            account(rest).map(Comment::Account).ok_or(LineFault::Account)
        } else if text.starts_with("起始日期:") {
            let (from, to) = period(text).ok_or(LineFault::Period)?;
            Ok(Comment::Period { from, to })
        } else if let Some(rest) = text.strip_prefix("交易合计:") {
            FooterLine::read(rest).map(Comment::Payments).ok_or(LineFault::Footer)
        } else if let Some(rest) = text.strip_prefix("退款合计:") {
            FooterLine::read(rest).map(Comment::Refunds).ok_or(LineFault::Footer)
        } else if text.contains("业务明细列表结束") {
            Ok(Comment::EndOfList)
        } else {
            Ok(Comment::Other)
        }
    }
}

/// Full-width marks made half-width, and without what spreadsheets leave around a line: some exports
/// fill comment lines with commas up to the number of columns.
pub(super) fn normalised(text: &str) -> String {
    let half_width = |char| match char {
        '：' => ':',
        '，' => ',',
        '（' => '(',
        '）' => ')',
        '［' => '[',
        '］' => ']',
        '\u{3000}' => ' ',
        other => other,
    };
    let text: String = text.chars().map(half_width).collect();
    text.trim_matches(|char: char| char.is_whitespace() || matches!(char, ',' | '"' | '\u{FEFF}'))
        .to_owned()
}

fn account(text: &str) -> Option<String> {
    let account = bracketed(text)?.trim();
    let plain = account.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !account.is_empty() && account.len() <= 64).then(|| account.to_owned())
}

fn period(text: &str) -> Option<(BillDay, BillDay)> {
    let (_, from) = text.split_once("起始日期:")?;
    let (_, to) = text.split_once("终止日期:")?;
    let (from, to) = (midnight(bracketed(from)?)?, midnight(bracketed(to)?)?);
    (from < to).then_some((from, to))
}

/// `2024年03月05日 00:00:00`: a bill begins and ends at midnight.
fn midnight(text: &str) -> Option<BillDay> {
    let (date, time) = text.trim().split_once(' ')?;
    let date = date.replace(['年', '月'], "-").replace('日', "");
    if time.trim() == "00:00:00" { BillDay::parse(&date).ok() } else { None }
}

fn bracketed(text: &str) -> Option<&str> {
    let (inside, _) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(from: &str, to: &str) -> Result<Comment, LineFault> {
        let (from, to) = (BillDay::parse(from).unwrap(), BillDay::parse(to).unwrap());
        Ok(Comment::Period { from, to })
    }

    #[test]
    fn comments_are_read_whatever_the_width_of_their_marks_and_their_padding() {
        for (text, expected) in [
            (
                "#账号：[20880000000000000156]",
                Ok(Comment::Account("20880000000000000156".to_owned())),
            ),
            ("#账号:[2088],,,,,,", Ok(Comment::Account("2088".to_owned()))),
            (
                "#起始日期：[2024年03月05日 00:00:00]   终止日期：[2024年03月06日 00:00:00]",
                period("2024-03-05", "2024-03-06"),
            ),
            (
                "#起始日期:[2024年02月01日 00:00:00] 终止日期:[2024年03月01日 00:00:00],,,",
                period("2024-02-01", "2024-03-01"),
            ),
            ("#---业务明细列表结束---,,", Ok(Comment::EndOfList)),
            ("#---业务明细列表---", Ok(Comment::Other)),
            ("#导出时间：[2024年03月06日 06:27:10]", Ok(Comment::Other)),
            ("#", Ok(Comment::Other)),
        ] {
            assert_eq!(Comment::read(text), expected, "{text}");
        }
    }

    #[test]
    fn an_account_or_a_period_that_is_none_is_refused() {
        for text in ["#账号：", "#账号：[]", "#账号：2088", "#账号：[甲]", "#账号：[2088"]
        {
            assert_eq!(Comment::read(text), Err(LineFault::Account), "{text}");
        }
        for text in [
            "#起始日期：[2024年03月05日 00:00:00]",
            "#起始日期：[2024年03月05日 00:00:00] 终止日期：[2024年03月05日 00:00:00]",
            "#起始日期：[2024年03月06日 00:00:00] 终止日期：[2024年03月05日 00:00:00]",
            "#起始日期：[2024年03月05日 08:00:00] 终止日期：[2024年03月06日 00:00:00]",
            "#起始日期：[2024年02月30日 00:00:00] 终止日期：[2024年03月06日 00:00:00]",
            "#起始日期：[2024年03月05日] 终止日期：[2024年03月06日]",
        ] {
            assert_eq!(Comment::read(text), Err(LineFault::Period), "{text}");
        }
    }
}
