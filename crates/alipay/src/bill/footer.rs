use payment::{Business, Fen};

use super::tally::{Sums, Tally};

/// What a 业务明细 says it adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) payments: FooterLine,
    pub(super) refunds: FooterLine,
}

/// `#交易合计：…` or `#退款合计：…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FooterLine {
    count: u64,
    sum: FooterSum,
    /// 商家优惠. The older wording's 优惠金额 is not documented to be the same, and is not read.
    discount: Option<Fen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FooterSum {
    /// 商家实收, with the rows' sign.
    Receipt(Fen),
    /// 交易金额, the older wording: the sum of 订单金额. For refunds no sample tells its sign.
    Total(Fen),
}

/// Where a footer and its rows say different things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the footer `#{line}` says {figure} {footer}, the rows add up to {rows}")]
pub struct Disagreement {
    /// 交易合计 or 退款合计.
    pub line: &'static str,
    /// 笔数 (the number of rows), 商家实收, 订单金额 or 商家优惠.
    pub figure: &'static str,
    /// The figure in the footer; amounts in yuan.
    pub footer: String,
    /// The same figure, added up from the rows.
    pub rows: String,
}

impl Footer {
    /// The first figure that is not the rows'; `None` where all agree.
    pub(super) fn disagreement(&self, rows: &Tally) -> Option<Disagreement> {
        let payments = self.payments.disagreement(Business::Payment, rows);
        payments.or_else(|| self.refunds.disagreement(Business::Refund, rows))
    }
}

impl FooterLine {
    /// Reads what follows `#交易合计:` or `#退款合计:`, full-width marks already made half-width:
    /// `6笔,商家实收共0.06元,商家优惠共0.00元`, in either wording.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (count, mut rest) = text.split_once('笔')?;
        let count = ungrouped(count)?.parse().ok()?;
        let (mut sum, mut discount) = (None, None);
        // Split at 元: a comma may stand between two clauses or inside an amount.
        while let Some((clause, behind)) = rest.split_once('元') {
            rest = behind;
            let (name, amount) = clause.split_once('共')?;
            let amount = Fen::parse_yuan(&ungrouped(amount)?).ok()?;
            let earlier = match name.trim_start_matches([',', ' ']) {
                "商家实收" | "商家实收退款" => {
                    sum.replace(FooterSum::Receipt(amount)).is_some()
                }
                "交易金额" | "交易退款金额" => {
                    sum.replace(FooterSum::Total(amount)).is_some()
                }
                "商家优惠" | "商家优惠退款" => discount.replace(amount).is_some(),
                _ => false,
            };
            if earlier {
                return None;
            }
        }
        Some(FooterLine { count, sum: sum?, discount })
    }

    fn disagreement(&self, business: Business, rows: &Tally) -> Option<Disagreement> {
        let line = match business {
            Business::Payment => "交易合计",
            Business::Refund => "退款合计",
        };
        let rows: &Sums = rows.sums(business);
        if self.count != rows.count {
            let (footer, rows) = (self.count.to_string(), rows.count.to_string());
            return Some(Disagreement { line, figure: "笔数", footer, rows });
        }
        let differ = |figure, footer: Fen, rows: Fen| {
            let (footer, rows) = (footer.to_string(), rows.to_string());
            Some(Disagreement { line, figure, footer, rows })
        };
        match self.sum {
            FooterSum::Receipt(receipt) if receipt != rows.receipt => {
                return differ("商家实收", receipt, rows.receipt);
            }
            FooterSum::Total(total) if !same(business, total, rows.total) => {
                return differ("订单金额", total, rows.total);
            }
            FooterSum::Receipt(_) | FooterSum::Total(_) => {}
        }
        match (self.discount, rows.discount) {
            (Some(footer), Some(rows)) if !same(business, footer, rows) => {
                differ("商家优惠", footer, rows)
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

/// Equal, or for refunds equal but for the sign.
fn same(business: Business, footer: Fen, rows: Fen) -> bool {
    match business {
        Business::Payment => footer == rows,
        Business::Refund => footer.get().unsigned_abs() == rows.get().unsigned_abs(),
    }
}

/// Removes thousands separators where they stand in their places: `1,234.00`, and not `12,34.00`.
fn ungrouped(figure: &str) -> Option<String> {
    let figure = figure.trim();
    let (whole, fraction) = figure.split_at(figure.find('.').unwrap_or(figure.len()));
    let mut groups = whole.trim_start_matches('-').split(',');
    let first = groups.next().map(str::len).unwrap_or_default();
    let grouped = whole.contains(',');
    if (grouped && !(1..=3).contains(&first)) || groups.any(|group| group.len() != 3) {
        return None;
    }
    Some(whole.replace(',', "") + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: u64, sum: FooterSum, discount: Option<i64>) -> Option<FooterLine> {
        Some(FooterLine { count, sum, discount: discount.map(Fen::new) })
    }

    #[test]
    fn both_wordings_are_read_with_and_without_thousands_separators() {
        for (text, expected) in [
            (
                "6笔,商家实收共0.06元,商家优惠共0.00元",
                line(6, FooterSum::Receipt(Fen::new(6)), Some(0)),
            ),
            (
                "4笔,商家实收退款共-0.04元,商家优惠退款共0.00元",
                line(4, FooterSum::Receipt(Fen::new(-4)), Some(0)),
            ),
            ("4笔,交易金额共0.08元,优惠金额共0.00元", line(4, FooterSum::Total(Fen::new(8)), None)),
            (
                "0笔,交易退款金额共0.00元,优惠退款金额共0.00元",
                line(0, FooterSum::Total(Fen::ZERO), None),
            ),
            (
                "23,811笔,商家实收共-7,563,180.81元,商家优惠共1,000元",
                line(23_811, FooterSum::Receipt(Fen::new(-756_318_081)), Some(100_000)),
            ),
        ] {
            assert_eq!(FooterLine::read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_footer_that_leaves_room_for_doubt_is_not_read() {
        for text in [
            "",
            "6",
            "6笔",
            "六笔,商家实收共0.06元",
            "-6笔,商家实收共0.06元",
            "6笔,商家优惠共0.00元",
            "6笔,商家实收共0.066元",
            "6笔,商家实收共1e3元",
            "6笔,商家实收共12,34.00元",
            "6笔,商家实收共,234.00元",
            "6笔,商家实收共1234,567.00元",
            "6笔,商家实收共1.00元,商家实收共2.00元",
            "6笔,商家实收共1.00元,交易金额共1.00元",
            "6笔,商家实收1.00元",
        ] {
            assert_eq!(FooterLine::read(text), None, "{text}");
        }
    }
}
