//! The parameters of a genuine message, typed.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use payment::{Fen, IdError};

use super::NotificationError;
use crate::VerifiedForm;
use crate::charset::Charset;
use crate::excerpt::excerpt;

/// A parameter without a value counts as absent everywhere here: empty values need not take part in
/// the signature, so anybody on the way could have added it.
pub(super) struct Parameters<'a> {
    form: &'a VerifiedForm,
    charset: Charset,
}

impl<'a> Parameters<'a> {
    /// Finds the charset and checks every name and value against it.
    pub(super) fn of(form: &'a VerifiedForm) -> Result<Self, NotificationError> {
        let declared = form.get("charset");
        let charset = Charset::declared(declared)
            .ok_or_else(|| NotificationError::unknown_charset(declared))?;
        let invalid = form.pairs().find(|(name, value)| {
            charset.decode(name).is_none() || charset.decode(value).is_none()
        });
        match invalid {
            Some((name, _)) => Err(NotificationError::not_in_charset(name, charset)),
            None => Ok(Parameters { form, charset }),
        }
    }

    pub(super) fn text(
        &self,
        name: &'static str,
    ) -> Result<Option<Cow<'a, str>>, NotificationError> {
        match self.form.get(name) {
            None | Some(b"") => Ok(None),
            Some(value) => match self.charset.decode(value) {
                Some(text) => Ok(Some(text)),
                None => Err(NotificationError::not_in_charset(name.as_bytes(), self.charset)),
            },
        }
    }

    pub(super) fn required(&self, name: &'static str) -> Result<Cow<'a, str>, NotificationError> {
        required(name, self.text(name)?)
    }

    pub(super) fn id<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<Option<T>, NotificationError> {
        let text = self.text(name)?;
        text.map(|text| parse(&text))
            .transpose()
            .map_err(|err| NotificationError::NotAnId { parameter: name, err })
    }

    pub(super) fn required_id<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<T, NotificationError> {
        required(name, self.id(name, parse)?)
    }

    /// Yuan, not negative: the direction of money is in the parameter's meaning.
    pub(super) fn amount(&self, name: &'static str) -> Result<Option<Fen>, NotificationError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let amount = Fen::parse_yuan(&text).map_err(|err| NotificationError::NotAnAmount {
            parameter: name,
            text: excerpt(text.as_bytes()),
            err,
        })?;
        if amount.is_negative() {
            return Err(NotificationError::NegativeAmount { parameter: name, amount });
        }
        Ok(Some(amount))
    }

    pub(super) fn required_amount(&self, name: &'static str) -> Result<Fen, NotificationError> {
        required(name, self.amount(name)?)
    }

    pub(super) fn time(
        &self,
        name: &'static str,
    ) -> Result<Option<DateTime<Utc>>, NotificationError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        payment::parse_local(&text).map(Some).map_err(|err| NotificationError::NotATime {
            parameter: name,
            text: excerpt(text.as_bytes()),
            err,
        })
    }
}

fn required<T>(parameter: &'static str, value: Option<T>) -> Result<T, NotificationError> {
    value.ok_or(NotificationError::Missing { parameter })
}
