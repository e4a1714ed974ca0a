use super::LineFault;
use super::comment::normalised;
use crate::charset::Charset;

/// What a column holds, as far as a row's reading depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    TradeNo,
    OutTradeNo,
    Business,
    CreatedAt,
    CompletedAt,
    Total,
    Receipt,
    Discount,
    RequestNo,
    Fee,
    Share,
    /// An amount that is not kept; it helps to see where a row's cells belong.
    OtherAmount,
    /// Anything else; never read.
    Text,
}

impl Column {
    /// Without these a row cannot be kept.
    const REQUIRED: [Column; 8] = [
        Column::TradeNo,
        Column::OutTradeNo,
        Column::Business,
        Column::CompletedAt,
        Column::Total,
        Column::Receipt,
        Column::RequestNo,
        Column::Fee,
    ];

    /// Alipay's own heading, as errors show it.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Column::TradeNo => "支付宝交易号",
            Column::OutTradeNo => "商户订单号",
            Column::Business => "业务类型",
            Column::CreatedAt => "创建时间",
            Column::CompletedAt => "完成时间",
            Column::Total => "订单金额（元）",
            Column::Receipt => "商家实收（元）",
            Column::Discount => "商家优惠（元）",
            Column::RequestNo => "退款批次号/请求号",
            Column::Fee => "服务费（元）",
            Column::Share => "分润（元）",
            Column::OtherAmount => "…（元）",
            Column::Text => "…",
        }
    }

    pub(super) fn is_amount(self) -> bool {
        match self {
            Column::Total
            | Column::Receipt
            | Column::Discount
            | Column::Fee
            | Column::Share
            | Column::OtherAmount => true,
            Column::TradeNo
            | Column::OutTradeNo
            | Column::Business
            | Column::CreatedAt
            | Column::CompletedAt
            | Column::RequestNo
            | Column::Text => false,
        }
    }

    fn of(heading: &str) -> Column {
        match heading {
            "支付宝交易号" => Column::TradeNo,
            "商户订单号" => Column::OutTradeNo,
            "业务类型" => Column::Business,
            "创建时间" => Column::CreatedAt,
            "完成时间" => Column::CompletedAt,
            "订单金额(元)" => Column::Total,
            "商家实收(元)" => Column::Receipt,
            "商家优惠(元)" => Column::Discount,
            "退款批次号/请求号" | "退款批次号" => Column::RequestNo,
            "服务费(元)" => Column::Fee,
            "分润(元)" => Column::Share,
            other if other.ends_with("(元)") => Column::OtherAmount,
            _ => Column::Text,
        }
    }
}

/// Which column stands where, by the headings: Alipay has added and moved columns over the years.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) order: Vec<Column>,
    pub(super) charset: Charset,
    pub(super) trade_no: usize,
    pub(super) out_trade_no: usize,
    pub(super) business: usize,
    pub(super) completed_at: usize,
    pub(super) total: usize,
    pub(super) receipt: usize,
    pub(super) request_no: usize,
    pub(super) fee: usize,
    /// These two are not in every bill.
    pub(super) share: Option<usize>,
    pub(super) discount: Option<usize>,
}

impl Columns {
    /// The widest bill known has 29.
    const MAX: usize = 100;

    pub(super) fn read(text: &str, charset: Charset) -> Result<Self, LineFault> {
        // Padding at the end stays: rows are padded to the same width.
        let order: Vec<Column> = text
            .split(',')
            .map(|heading| normalised(heading).replace([' ', '\t'], ""))
            .map(|heading| Column::of(&heading))
            .collect();
        if order.len() > Columns::MAX {
            return Err(LineFault::TooManyHeadings { headings: order.len(), limit: Columns::MAX });
        }
        let place = |wanted: Column| order.iter().position(|column| *column == wanted);
        let missing = || {
            let absent = |column: &Column| place(*column).is_none();
            let columns =
                Column::REQUIRED.into_iter().filter(absent).map(Column::heading).collect();
            LineFault::MissingHeadings { columns }
        };
        let required = |wanted| place(wanted).ok_or_else(missing);
        let columns = Columns {
            trade_no: required(Column::TradeNo)?,
            out_trade_no: required(Column::OutTradeNo)?,
            business: required(Column::Business)?,
            completed_at: required(Column::CompletedAt)?,
            total: required(Column::Total)?,
            receipt: required(Column::Receipt)?,
            request_no: required(Column::RequestNo)?,
            fee: required(Column::Fee)?,
            share: place(Column::Share),
            discount: place(Column::Discount),
            charset,
            order,
        };
        columns.refuse_repeated()?;
        Ok(columns)
    }

    fn refuse_repeated(&self) -> Result<(), LineFault> {
        let read = |column: &Column| !matches!(column, Column::OtherAmount | Column::Text);
        for (place, column) in self.order.iter().enumerate().filter(|(_, column)| read(column)) {
            if self.order.iter().take(place).any(|earlier| earlier == column) {
                return Err(LineFault::RepeatedHeading { column: column.heading() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,订单金额（元）,\
                            商家实收（元）,支付宝红包（元）,退款批次号/请求号,服务费（元）,备注";

    #[test]
    fn columns_are_found_by_heading_in_any_order_and_any_width_of_parentheses() {
        let backwards: Vec<&str> = HEADINGS.split(',').rev().collect();
        let backwards = backwards.join("\t, ").replace(['（'], "(").replace('）', ")");
        let columns = Columns::read(&backwards, Charset::Utf8).unwrap();
        assert_eq!((columns.trade_no, columns.fee, columns.share), (11, 1, None));
        let widths = Columns::read(HEADINGS, Charset::Utf8).unwrap().order;
        assert!(columns.order.iter().rev().eq(&widths));
        assert_eq!(widths[3], Column::Text);
        assert_eq!(widths[8], Column::OtherAmount);
    }

    #[test]
    fn the_older_name_of_the_request_number_is_the_same_column() {
        let older = HEADINGS.replace("退款批次号/请求号", "退款批次号");
        assert_eq!(Columns::read(&older, Charset::Utf8).unwrap().request_no, 9);
    }

    #[test]
    fn missing_headings_are_all_named() {
        let fault =
            Columns::read("支付宝交易号,完成时间,商户订单号,备注", Charset::Utf8).unwrap_err();
        let columns = vec![
            "业务类型",
            "订单金额（元）",
            "商家实收（元）",
            "退款批次号/请求号",
            "服务费（元）",
        ];
        assert_eq!(fault, LineFault::MissingHeadings { columns });
    }

    #[test]
    fn a_column_that_is_there_twice_is_refused_padding_is_not() {
        let twice = format!("{HEADINGS},商家实收(元)");
        let fault = Columns::read(&twice, Charset::Utf8).unwrap_err();
        assert_eq!(fault, LineFault::RepeatedHeading { column: "商家实收（元）" });
        assert!(Columns::read(&format!("{HEADINGS},,,"), Charset::Utf8).is_ok());
    }

    #[test]
    fn a_line_of_commas_is_no_headings() {
        let fault = Columns::read(&",".repeat(500), Charset::Utf8).unwrap_err();
        assert_eq!(fault, LineFault::TooManyHeadings { headings: 501, limit: 100 });
    }
}
