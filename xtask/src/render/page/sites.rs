//! The largest allocation sites of one side of one step: the flame graph as a table, with what is gone and new.

use std::collections::BTreeMap;

use alloc_ladder::Stage;
use alloc_ladder::record::Stacks;
use maud::{Markup, html};

use super::figures::{self, FigureChange};
use super::{charts, parts};
use crate::analyse::fold::Profile;
use crate::cli::numbers;

/// How many rows the table has.
const ROWS: usize = 10;

/// Names of generic code can be as long as a page; the front says what it is.
const NAME_MAX: usize = 240;

/// A profile with what its counts are divided by.
#[derive(Clone, Copy)]
pub(crate) struct SeenSites<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) stacks: &'a Stacks,
}

#[derive(Clone, Copy, Default)]
struct Allocated {
    bytes: f64,
    blocks: f64,
}

struct SiteRow {
    stage: Stage,
    leaf: String,
    caller: String,
    before: Option<Allocated>,
    after: Allocated,
}

/// What all rows allocate, and which units any of them has now or had before: folded stacks carry one number each.
#[derive(Clone, Copy)]
struct Total {
    allocated: Allocated,
    has_bytes: bool,
    has_blocks: bool,
}

impl Total {
    fn of(rows: &[SiteRow]) -> Total {
        let amounts = || rows.iter().flat_map(|row| [Some(row.after), row.before]).flatten();
        Total {
            allocated: rows.iter().map(|row| row.after).fold(Allocated::default(), Allocated::plus),
            has_bytes: amounts().any(|amount| amount.bytes > 0.0),
            has_blocks: amounts().any(|amount| amount.blocks > 0.0),
        }
    }

    /// The part of the bytes, or of the blocks where bytes were not measured.
    fn share(self, amount: Allocated) -> f64 {
        let (part, whole) =
            if self.has_bytes { (amount.bytes, self.allocated.bytes) } else { (amount.blocks, self.allocated.blocks) };
        if whole > 0.0 { part / whole } else { 0.0 }
    }
}

impl Allocated {
    fn plus(self, other: Allocated) -> Allocated {
        Allocated { bytes: self.bytes + other.bytes, blocks: self.blocks + other.blocks }
    }

    fn is_nothing(self) -> bool {
        self.bytes == 0.0 && self.blocks == 0.0
    }
}

pub(crate) fn table(side: &str, noun: &str, this: SeenSites<'_>, previous: Option<SeenSites<'_>>) -> Markup {
    let rows = rows(this, previous);
    let total = Total::of(&rows);
    if rows.is_empty() {
        return html! { p.empty { "Nothing is allocated here any more." } };
    }
    let shown = &rows[..rows.len().min(ROWS)];
    parts::scrolling(
        &format!("Largest allocation sites, {side}"),
        html! {
            table.sites role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th role="columnheader" scope="col" { "allocates in" }
                        th role="columnheader" scope="col" { "called by" }
                        th.number role="columnheader" scope="col" { "bytes / " (noun) }
                        th.number role="columnheader" scope="col" { "share" }
                        th.number role="columnheader" scope="col" { "allocs / " (noun) }
                        th.number role="columnheader" scope="col" { "vs previous" }
                    }
                }
                tbody role="rowgroup" {
                    @for row in shown {
                        @let gone = row.after.is_nothing();
                        tr.gone[gone] role="row" {
                            th role="rowheader" scope="row" {
                                (charts::swatch(row.stage)) span.spoken { (charts::words(row.stage)) ": " }
                                " " bdi.code { (clipped(&row.leaf)) }
                            }
                            td role="cell" { bdi.code { (clipped(&row.caller)) } }
                            (numbers(noun, row.after, total, &moved(row, previous.is_some())))
                        }
                    }
                }
                @if rows.len() > shown.len() {
                    @let rest = Total::of(&rows[shown.len()..]).allocated;
                    @let count = rows.len() - shown.len();
                    tfoot role="rowgroup" {
                        tr.aside role="row" {
                            th role="rowheader" scope="row" {
                                (numbers::count(count as u64)) " smaller " (if count == 1 { "site" } else { "sites" })
                            }
                            td role="cell" {}
                            (numbers(noun, rest, total, &html! {}))
                        }
                    }
                }
            }
        },
    )
}

/// The figures of one row; labels are for narrow windows, where a row turns into a card.
fn numbers(noun: &str, amount: Allocated, total: Total, moved: &Markup) -> Markup {
    let if_measured = |is_measured: bool, figure: String| if is_measured { figure } else { "–".to_owned() };
    html! {
        td.number role="cell" data-label={ "bytes / " (noun) } {
            (if_measured(total.has_bytes, numbers::bytes(amount.bytes)))
        }
        td.number role="cell" data-label="share" { (numbers::share(total.share(amount))) }
        td.number role="cell" data-label={ "allocs / " (noun) } {
            (if_measured(total.has_blocks, numbers::number(amount.blocks)))
        }
        td.number role="cell" data-label="vs previous" { (moved) }
    }
}

fn moved(row: &SiteRow, has_previous: bool) -> Markup {
    match row.before {
        _ if !has_previous => html! { span.quiet { "–" } },
        None => html! { span.worse { b { "new" } } },
        Some(_) if row.after.is_nothing() => html! { span.better { b { "gone" } } },
        Some(before) => parts::change(Some(&FigureChange::cost(before.bytes, row.after.bytes))),
    }
}

/// Largest first, by whichever of before and after is larger: what vanished keeps its place.
fn rows(this: SeenSites<'_>, previous: Option<SeenSites<'_>>) -> Vec<SiteRow> {
    let mut after = gather(this);
    let mut before = previous.map(gather).unwrap_or_default();
    let mut rows: Vec<SiteRow> = Vec::new();
    while let Some((key, amount)) = after.pop_first() {
        let before = before.remove(&key);
        let (stage, leaf, caller) = key;
        rows.push(SiteRow { stage, leaf, caller, before, after: amount });
    }
    rows.extend(before.into_iter().map(|((stage, leaf, caller), amount)| SiteRow {
        stage,
        leaf,
        caller,
        before: Some(amount),
        after: Allocated::default(),
    }));
    let size = |row: &SiteRow| {
        let before = row.before.unwrap_or_default();
        (row.after.bytes.max(before.bytes), row.after.blocks.max(before.blocks))
    };
    rows.sort_by(|a, b| {
        let ((bytes_a, blocks_a), (bytes_b, blocks_b)) = (size(a), size(b));
        bytes_b.total_cmp(&bytes_a).then(blocks_b.total_cmp(&blocks_a))
    });
    rows
}

/// Sites by stage, allocating frame and caller, per message.
fn gather(per: SeenSites<'_>) -> BTreeMap<(Stage, String, String), Allocated> {
    let messages = per.stacks.messages.max(1) as f64;
    let mut amounts: BTreeMap<(Stage, String, String), Allocated> = BTreeMap::new();
    for site in per.profile.sites.iter().filter(|site| site.stage != Stage::Instrument) {
        let (leaf, caller) = ends(per.profile.frames(site));
        let amount = amounts.entry((site.stage, leaf.to_owned(), caller.to_owned())).or_default();
        amount.bytes += site.bytes as f64 / messages;
        amount.blocks += site.blocks as f64 / messages;
    }
    amounts
}

/// The allocating frame and the first one above it that is somewhere else.
fn ends<'a>(frames: impl DoubleEndedIterator<Item = &'a str> + Clone) -> (&'a str, &'a str) {
    fn module(name: &str) -> &str {
        name.rsplit_once("::").map_or("", |(module, _)| module)
    }
    let mut frames = frames.rev();
    let leaf = frames.next().unwrap_or("(no frames)");
    let own = module(leaf);
    let mut rest = frames.clone();
    // `BytesMut::reserve_inner` is called by `BytesMut::reserve`, which says nothing new.
    let caller = rest.find(|name| module(name) != own).or_else(|| frames.next());
    (leaf, caller.unwrap_or("–"))
}

/// A name cut to what a table can hold.
pub(crate) fn clipped(name: &str) -> String {
    figures::clipped(name, NAME_MAX)
}
