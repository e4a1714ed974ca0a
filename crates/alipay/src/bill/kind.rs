use std::io::BufRead;

use super::lines::Lines;
use super::{BillError, comment};
use crate::charset::Charset;

/// What a file of the archive is, by its own first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TradeDetail,
    TradeSummary,
    FundDetail,
    FundSummary,
}

impl Kind {
    /// Alipay's name for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::TradeDetail => "业务明细",
            Kind::TradeSummary => "业务汇总",
            Kind::FundDetail => "账务明细",
            Kind::FundSummary => "账务汇总",
        }
    }
}

/// Reads the first line: what the file is, and in which charset the rest of it is written.
pub(super) fn recognise(lines: &mut Lines<impl BufRead>) -> Result<(Kind, Charset), BillError> {
    let first = lines.next_line()?.and_then(|line| {
        let bytes = line.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line.bytes);
        // Chinese in GBK is practically never valid UTF-8, and this line is known anyway.
        [Charset::Utf8, Charset::Gb18030].into_iter().find_map(|charset| {
            let text = charset.decode(bytes)?;
            Some((kind(&comment::normalised(&text))?, charset))
        })
    });
    first.ok_or_else(|| BillError::UnknownEntry { entry: lines.entry().to_owned() })
}

/// `#支付宝业务明细查询` and its three sisters; also with 汇总 behind 明细, as in the files' names.
fn kind(text: &str) -> Option<Kind> {
    let text = text.strip_prefix("#支付宝")?;
    let summary = text.contains("汇总");
    if !summary && !text.contains("明细") {
        return None;
    }
    if text.starts_with("业务") {
        Some(if summary { Kind::TradeSummary } else { Kind::TradeDetail })
    } else if text.starts_with("账务") {
        Some(if summary { Kind::FundSummary } else { Kind::FundDetail })
    } else {
        None
    }
}
