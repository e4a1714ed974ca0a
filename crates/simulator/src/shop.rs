//! Who buys what, and where. Everything here is made up.

use crate::dice::Dice;
use crate::trade::{Buyer, Goods, Store};

pub(crate) fn goods(dice: &mut Dice) -> Goods {
    let subject = dice.pick(&[
        "测试商品",
        "测试商品 A+B & \"C\" 100%",
        "拿铁咖啡（大杯）",
        "会员月卡 12+1",
        "儿童绘本《小熊》",
        "手机壳 & 贴膜",
        "满100%好评返现礼盒",
        "雨伞\"经典\"款",
        "T恤 50%棉=舒适",
        "Tea & 'Cake' #2",
        "自行车租赁/小时",
        "数据线;1米",
    ]);
    let body = dice.percent(25).then(|| dice.pick(&["商品描述", "两件 9折 & 包邮", "size=L+"]));
    // Alipay hands these back as the merchant sent them: usually encoded once more.
    let passback_params = dice
        .percent(30)
        .then(|| dice.pick(&["k%3Dv%26x%3D1", "merchantBizType%3d3C", "门店=1&渠道=2"]));
    Goods { subject, body, passback_params }
}

pub(crate) fn buyer(dice: &mut Dice) -> Buyer {
    let digits = dice.digits(4);
    let id = if dice.percent(85) {
        ("buyer_id", format!("208800000000{digits}"))
    } else {
        ("buyer_open_id", format!("000simulated-buyer-{digits}"))
    };
    let logon_id = if dice.percent(80) {
        format!("138****{}", dice.digits(2))
    } else {
        "abc***@example.com".to_owned()
    };
    Buyer { id, logon_id, surname: dice.pick(&["甲", "乙", "丙", "丁"]) }
}

pub(crate) fn store(dice: &mut Dice) -> Option<Store> {
    match dice.between(0, 9) {
        0 => Some(Store { number: "S001", name: "一号店", operator: "op1", terminal: "T9" }),
        1 => {
            Some(Store {
                number: "S002", name: "二号店（南山）", operator: "op2", terminal: "T3"
            })
        }
        _ => None,
    }
}
