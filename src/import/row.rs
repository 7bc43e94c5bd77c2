//! Lines of the file, each checked by itself and against the lines before it. docs/wallet-import.md describes them.

use std::collections::HashMap;
use std::io::Read;

use bursar_domain::credits::{AmountError, Ucr};
use bursar_domain::record::GrantKind;
use bursar_domain::time::Timestamp;
use csv::{ReaderBuilder, StringRecord, Trim};

use super::Fault;
use crate::calendar::parse_time;
use crate::clock::rfc3339;

/// The columns, in any order; the last two may be missing.
pub const COLUMNS: [&str; 7] = ["tenant", "id", "kind", "amount", "created_at", "expires_at", "reason"];
/// Of these, how many must be there.
const REQUIRED: usize = 5;
/// Bytes of an id: it becomes part of a ledger key, which is indexed.
const MOST_ID_BYTES: usize = 200;
/// Bytes of a tenant's reference.
const MOST_TENANT_BYTES: usize = 200;
/// Bytes of a reason.
const MOST_REASON_BYTES: usize = 500;

/// One line: credits that somebody had in the other system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub line: u64,
    /// Whose: a tenant's name, which is made when it does not exist, or the id of one that does.
    pub tenant: String,
    /// What the other system calls it: unique in the file, and for ever in the wallet.
    pub id: String,
    /// Where the credits came from.
    pub kind: GrantKind,
    /// How many, greater than zero.
    pub amount: Ucr,
    /// When the other system gave them.
    pub created_at: Timestamp,
    /// From when they can't be spent.
    pub expires_at: Option<Timestamp>,
    /// Why they were given.
    pub reason: Option<String>,
}

impl Row {
    /// The reason that the grant gets: it keeps the date, since the ledger's own is that of the import.
    pub fn words(&self) -> String {
        let date = rfc3339(self.created_at);
        match &self.reason {
            Some(reason) => format!("imported, dated {date}: {reason}"),
            None => format!("imported, dated {date}"),
        }
    }
}

/// All lines in the order of their dates, or everything that is wrong with them.
pub fn read(file: impl Read, now: Timestamp) -> Result<Vec<Row>, Vec<Fault>> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
    let head = reader.headers().map_err(|error| vec![broken(&error)])?;
    let places = Places::of(head).map_err(|fault| vec![fault])?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut lines_of_ids: HashMap<String, u64> = HashMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                faults.push(broken(&error));
                continue;
            }
        };
        let line = Line { record: &record, places: &places, number: record.position().map_or(0, csv::Position::line) };
        match line.row(now) {
            Ok(row) => {
                if let Some(first) = lines_of_ids.get(&row.id) {
                    faults.push(Fault::at(row.line, "id", format!("`{}` stands in line {first} already", row.id)));
                } else {
                    lines_of_ids.insert(row.id.clone(), row.line);
                    rows.push(row);
                }
            }
            Err(of_line) => faults.extend(of_line),
        }
    }
    if rows.is_empty() && faults.is_empty() {
        faults.push(Fault::of_line(1, "the file has no lines besides its head"));
    }
    rows.sort_by_key(|row| (row.created_at, row.line));
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

fn broken(error: &csv::Error) -> Fault {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Fault::of_line(line, format!("it has {len} cells and the head has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { .. } => Fault::of_line(line, "it is not UTF-8"),
        _ => Fault::of_line(line, format!("it can't be read: {error}")),
    }
}

/// Where each column stands.
struct Places([Option<usize>; COLUMNS.len()]);

impl Places {
    fn of(head: &StringRecord) -> Result<Self, Fault> {
        let mut places = [None; COLUMNS.len()];
        for (place, name) in head.iter().enumerate() {
            let known = COLUMNS.iter().zip(&mut places).find(|(column, _)| **column == name);
            match known {
                None => {
                    let known = COLUMNS.join(", ");
                    return Err(Fault::of_line(1, format!("there is no column `{name}`; the columns are {known}")));
                }
                Some((_, Some(_))) => return Err(Fault::of_line(1, format!("the column `{name}` stands twice"))),
                Some((_, free)) => *free = Some(place),
            }
        }
        let missing = COLUMNS.iter().zip(&places).take(REQUIRED).find(|(_, place)| place.is_none());
        match missing {
            Some((name, _)) => Err(Fault::of_line(1, format!("the column `{name}` is missing"))),
            None => Ok(Self(places)),
        }
    }
}

struct Line<'a> {
    record: &'a StringRecord,
    places: &'a Places,
    number: u64,
}

impl Line<'_> {
    /// The text of a column; nothing where the column is missing.
    fn cell(&self, column: &'static str) -> &str {
        let place = COLUMNS.iter().zip(&self.places.0).find(|(name, _)| **name == column).and_then(|(_, place)| *place);
        place.and_then(|place| self.record.get(place)).unwrap_or_default()
    }

    /// The value of a column, or what is wrong with it.
    fn take<T>(
        &self,
        faults: &mut Vec<Fault>,
        column: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(self.cell(column)) {
            Ok(value) => Some(value),
            Err(message) => {
                faults.push(Fault::at(self.number, column, message));
                None
            }
        }
    }

    fn row(&self, now: Timestamp) -> Result<Row, Vec<Fault>> {
        let mut faults = Vec::new();
        let tenant = self.take(&mut faults, "tenant", tenant);
        let id = self.take(&mut faults, "id", id);
        let kind = self.take(&mut faults, "kind", |text| {
            GrantKind::from_name(text).ok_or_else(|| "must be promo, included, paid, refund or adjust".to_owned())
        });
        let amount = self.take(&mut faults, "amount", amount);
        let created_at = self.take(&mut faults, "created_at", |text| past(text, now));
        let expires_at = self.take(&mut faults, "expires_at", |text| deadline(text, created_at));
        let reason = self.take(&mut faults, "reason", reason);
        match (tenant, id, kind, amount, created_at, expires_at, reason) {
            (Some(tenant), Some(id), Some(kind), Some(amount), Some(created_at), Some(expires_at), Some(reason)) => {
                Ok(Row { line: self.number, tenant, id, kind, amount, created_at, expires_at, reason })
            }
            _ => Err(faults),
        }
    }
}

fn tenant(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must name a tenant".to_owned());
    }
    if text.len() > MOST_TENANT_BYTES || text.chars().any(char::is_control) {
        return Err(format!("must have at most {MOST_TENANT_BYTES} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

fn id(text: &str) -> Result<String, String> {
    let is_fine = (1..=MOST_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fine { Ok(text.to_owned()) } else { Err(format!("must be 1 to {MOST_ID_BYTES} visible ASCII characters")) }
}

fn amount(text: &str) -> Result<Ucr, String> {
    match text.parse::<Ucr>() {
        Ok(amount) if amount.is_positive() => Ok(amount),
        Ok(amount) if amount.is_zero() => Err("must be greater than zero".to_owned()),
        Ok(_) => {
            Err("must be greater than zero: what was spent is not imported, only what is left of a grant".to_owned())
        }
        Err(error @ (AmountError::NotDecimal(_) | AmountError::TooPrecise(_) | AmountError::TooLarge(_))) => {
            Err(error.to_string())
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text).ok_or_else(|| "must be a time in RFC 3339, or a date such as 2026-01-31".to_owned())
}

fn past(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let time = time(text)?;
    if time > now { Err("lies in the future".to_owned()) } else { Ok(time) }
}

fn deadline(text: &str, created_at: Option<Timestamp>) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = time(text)?;
    match created_at {
        Some(created_at) if time <= created_at => Err("must be after created_at".to_owned()),
        _ => Ok(Some(time)),
    }
}

fn reason(text: &str) -> Result<Option<String>, String> {
    if text.len() > MOST_REASON_BYTES || text.contains('\0') {
        return Err(format!("must have at most {MOST_REASON_BYTES} bytes"));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const HEAD: &str = "tenant,id,kind,amount,created_at,expires_at,reason\n";

    fn refused(lines: &str) -> Vec<String> {
        read(format!("{HEAD}{lines}").as_bytes(), NOW).unwrap_err().iter().map(Fault::to_string).collect()
    }

    #[test]
    fn lines_come_in_the_order_of_their_dates() {
        let text = format!(
            "\u{feff}{HEAD}acme,b,paid,12.5,2026-03-01,,\"two\nlines\"\nacme, a ,promo,1,2025-01-01T00:00:00Z,2030-01-01,\n"
        );
        let rows = read(text.as_bytes(), NOW).unwrap();
        assert_eq!((rows[0].id.as_str(), rows[0].line, rows[1].line), ("a", 4, 2));
        assert_eq!((rows[1].amount, rows[1].reason.as_deref()), (Ucr::new(12_500_000), Some("two\nlines")));
        assert_eq!(rows[0].expires_at, parse_time("2030-01-01"));
        assert_eq!(rows[0].words(), "imported, dated 2025-01-01T00:00:00.000Z");
    }

    #[test]
    fn columns_stand_in_any_order_and_the_last_two_may_be_missing() {
        let text = "amount,kind,created_at,tenant,id\n3,paid,2026-01-01,acme,x\n";
        let rows = read(text.as_bytes(), NOW).unwrap();
        assert_eq!((rows[0].amount, rows[0].expires_at, rows[0].reason.as_deref()), (Ucr::new(3_000_000), None, None));
    }

    #[test]
    fn every_bad_amount_is_refused_with_line_and_column() {
        let amounts = ["-1", "0", "0.000000", "", "1e3", "1,5", "+1", "NaN", "0.0000001", "9223372036854.775808", "∞"];
        for amount in amounts {
            let faults = refused(&format!("acme,a,paid,5,2026-01-01,,\nacme,b,paid,\"{amount}\",2026-01-01,,\n"));
            assert_eq!(faults.len(), 1, "{amount}: {faults:?}");
            assert!(faults[0].starts_with("line 3, column amount: "), "{amount}: {faults:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let faults = refused("acme,a b,bought,0,2999-01-01,soon,\n,c,paid,1,2026-01-01,2025-01-01,\nacme,d,paid,1\n");
        let places: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "line 2, column id",
                "line 2, column kind",
                "line 2, column amount",
                "line 2, column created_at",
                "line 2, column expires_at",
                "line 3, column tenant",
                "line 3, column expires_at",
                "line 4",
            ]
        );
    }

    #[test]
    fn an_id_stands_once_in_a_file() {
        let faults = refused("acme,a,paid,1,2026-01-01,,\nother,a,paid,1,2026-01-01,,\n");
        assert_eq!(faults, ["line 3, column id: `a` stands in line 2 already"]);
    }

    #[test]
    fn a_head_that_is_not_understood_is_refused() {
        for (text, told) in [
            ("tenant,id\n", "the column `kind` is missing"),
            ("tenant,id,kind,amount,created_at,colour\n", "there is no column `colour`"),
            ("tenant,id,kind,amount,created_at,id\n", "the column `id` stands twice"),
            ("", "the column"),
            ("tenant,id,kind,amount,created_at\n", "no lines besides its head"),
        ] {
            let faults = read(text.as_bytes(), NOW).unwrap_err();
            assert!(faults[0].line == 1 && faults[0].message.contains(told), "{text:?}: {faults:?}");
        }
        let faults = read(&b"tenant,id,kind,amount,created_at\nac\xffme,a,paid,1,2026-01-01\n"[..], NOW).unwrap_err();
        assert_eq!((faults[0].line, faults[0].message.as_str()), (2, "it is not UTF-8"));
    }
}
