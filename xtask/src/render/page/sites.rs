//! The largest allocation sites of one side of one step: the flame graph as a table, with what is gone and new.

use std::collections::BTreeMap;

use alloc_ladder::Stage;
use alloc_ladder::record::Stacks;
use maud::{Markup, html};

use super::figures::{self, FigureChange};
use super::{charts, parts};
use crate::analyse::dhat::Measured;
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

/// What a row allocates, per message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allocated {
    pub(crate) bytes: f64,
    pub(crate) blocks: f64,
    pub(crate) peak_bytes: f64,
    pub(crate) peak_blocks: f64,
    pub(crate) live_bytes: f64,
    pub(crate) temporary: f64,
}

/// Who allocates, and who calls it; each with the line of source that most of the bytes come through.
#[derive(Clone, Copy, Default)]
struct Lines<'a> {
    leaf: &'a str,
    caller: &'a str,
    bytes: u64,
}

pub(crate) struct SiteRow<'a> {
    stage: Stage,
    leaf: &'a str,
    caller: &'a str,
    lines: Lines<'a>,
    before: Option<Allocated>,
    pub(crate) after: Allocated,
}

impl SiteRow<'_> {
    /// The two cells of a row that say where it allocates.
    pub(crate) fn names(&self) -> Markup {
        html! {
            th role="rowheader" scope="row" {
                (charts::swatch(self.stage)) span.spoken { (charts::words(self.stage)) ": " }
                " " bdi.code { (clipped(self.leaf)) } (place(self.lines.leaf))
            }
            td role="cell" { bdi.code { (clipped(self.caller)) } (place(self.lines.caller)) }
        }
    }
}

/// A line of source; the page's script puts a button beside it that copies it.
fn place(line: &str) -> Markup {
    html! { @if !line.is_empty() { " " bdi.place { (figures::clipped(line, NAME_MAX)) } } }
}

/// What all rows allocate, and which units any of them has now or had before: folded stacks carry one number each.
#[derive(Clone, Copy)]
struct Total {
    allocated: Allocated,
    has_bytes: bool,
    has_blocks: bool,
    /// What the columns of a program's page say beside what was allocated; none on a ladder's.
    beside: Measured,
    has_previous: bool,
}

impl Total {
    fn of(rows: &[SiteRow<'_>], beside: Measured, has_previous: bool) -> Total {
        let amounts = || rows.iter().flat_map(|row| [Some(row.after), row.before]).flatten();
        Total {
            allocated: rows.iter().map(|row| row.after).fold(Allocated::default(), Allocated::plus),
            has_bytes: amounts().any(|amount| amount.bytes > 0.0),
            has_blocks: amounts().any(|amount| amount.blocks > 0.0),
            beside,
            has_previous,
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
        Allocated {
            bytes: self.bytes + other.bytes,
            blocks: self.blocks + other.blocks,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            peak_blocks: self.peak_blocks + other.peak_blocks,
            live_bytes: self.live_bytes + other.live_bytes,
            temporary: self.temporary + other.temporary,
        }
    }

    fn is_nothing(self) -> bool {
        self.bytes == 0.0 && self.blocks == 0.0
    }
}

/// The table of one side. A program's has columns for what stays live and what is temporary, where that was measured, and
/// compares with a previous step only where there is one.
pub(crate) fn table(
    side: &str,
    noun: &str,
    is_program: bool,
    this: SeenSites<'_>,
    previous: Option<SeenSites<'_>>,
) -> Markup {
    let rows = rows(this, previous);
    let none = Measured { live: false, peak: false, temporary: false };
    let beside = if is_program { this.profile.measured } else { none };
    let total = Total::of(&rows, beside, previous.is_some() || !is_program);
    if rows.is_empty() {
        return html! { p.empty { "Nothing is allocated here any more." } };
    }
    let shown = &rows[..rows.len().min(ROWS)];
    let heading = |words: &str| html! { th.number role="columnheader" scope="col" { (words) } };
    parts::scrolling(
        &format!("Largest allocation sites{side}"),
        html! {
            table.sites role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th role="columnheader" scope="col" { "allocates in" }
                        th role="columnheader" scope="col" { "called by" }
                        th.number role="columnheader" scope="col" { "bytes / " (noun) }
                        (heading("share"))
                        th.number role="columnheader" scope="col" { "allocs / " (noun) }
                        @if beside.temporary { (heading("temporary")) }
                        @if beside.live { (heading("live at the end")) }
                        @if beside.peak { (heading("at the peak")) }
                        @if total.has_previous { (heading("vs previous")) }
                    }
                }
                tbody role="rowgroup" {
                    @for row in shown {
                        @let gone = row.after.is_nothing();
                        tr.gone[gone] role="row" {
                            (row.names())
                            (numbers(noun, row.after, total, &moved(row, previous.is_some())))
                        }
                    }
                }
                @if rows.len() > shown.len() {
                    @let rest = Total::of(&rows[shown.len()..], beside, total.has_previous).allocated;
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
    let of_blocks = if amount.blocks > 0.0 { amount.temporary / amount.blocks } else { 0.0 };
    html! {
        td.number role="cell" data-label={ "bytes / " (noun) } {
            (if_measured(total.has_bytes, numbers::bytes(amount.bytes)))
        }
        td.number role="cell" data-label="share" { (numbers::share(total.share(amount))) }
        td.number role="cell" data-label={ "allocs / " (noun) } {
            (if_measured(total.has_blocks, numbers::number(amount.blocks)))
        }
        @if total.beside.temporary {
            td.number role="cell" data-label="temporary" { (numbers::share(of_blocks)) }
        }
        @if total.beside.live {
            td.number role="cell" data-label="live at the end" { (numbers::bytes(amount.live_bytes)) }
        }
        @if total.beside.peak {
            td.number role="cell" data-label="at the peak" { (numbers::bytes(amount.peak_bytes)) }
        }
        @if total.has_previous { td.number role="cell" data-label="vs previous" { (moved) } }
    }
}

fn moved(row: &SiteRow<'_>, has_previous: bool) -> Markup {
    match row.before {
        _ if !has_previous => html! { span.quiet { "–" } },
        None => html! { span.worse { b { "new" } } },
        Some(_) if row.after.is_nothing() => html! { span.better { b { "gone" } } },
        Some(before) => parts::change(Some(&FigureChange::cost(before.bytes, row.after.bytes))),
    }
}

/// Largest first, by whichever of before and after is larger: what vanished keeps its place.
fn rows<'a>(this: SeenSites<'a>, previous: Option<SeenSites<'a>>) -> Vec<SiteRow<'a>> {
    let mut after = gather(this);
    let mut before = previous.map(gather).unwrap_or_default();
    let mut rows: Vec<SiteRow<'a>> = Vec::new();
    let row = |(stage, leaf, caller), lines, before, after| SiteRow { stage, leaf, caller, lines, before, after };
    while let Some((key, (amount, lines))) = after.pop_first() {
        let before = before.remove(&key).map(|(amount, _)| amount);
        rows.push(row(key, lines, before, amount));
    }
    rows.extend(before.into_iter().map(|(key, (amount, lines))| row(key, lines, Some(amount), Allocated::default())));
    // Sampled files name stacks of which they have no sample. Nothing went away there.
    rows.retain(|row| !row.after.is_nothing() || row.before.is_some_and(|before| !before.is_nothing()));
    let size = |row: &SiteRow<'_>| {
        let before = row.before.unwrap_or_default();
        (row.after.bytes.max(before.bytes), row.after.blocks.max(before.blocks))
    };
    rows.sort_by(|a, b| {
        let ((bytes_a, blocks_a), (bytes_b, blocks_b)) = (size(a), size(b));
        bytes_b.total_cmp(&bytes_a).then(blocks_b.total_cmp(&blocks_a))
    });
    rows
}

/// The rows that held something when the heap was at its largest, by what they held.
pub(crate) fn at_peak(this: SeenSites<'_>) -> Vec<SiteRow<'_>> {
    let mut rows = rows(this, None);
    rows.retain(|row| row.after.peak_bytes > 0.0);
    rows.sort_by(|a, b| b.after.peak_bytes.total_cmp(&a.after.peak_bytes));
    rows
}

/// Sites by stage, allocating frame and caller, per message.
fn gather<'a>(per: SeenSites<'a>) -> BTreeMap<(Stage, &'a str, &'a str), (Allocated, Lines<'a>)> {
    let messages = per.stacks.messages.max(1) as f64;
    let mut amounts: BTreeMap<_, (Allocated, Lines<'a>)> = BTreeMap::new();
    for site in per.profile.sites.iter().filter(|site| site.stage != Stage::Instrument) {
        let ends = ends(per.profile.frames(site));
        let (amount, lines) = amounts.entry((site.stage, ends.leaf, ends.caller)).or_default();
        *amount = amount.plus(Allocated {
            bytes: site.bytes as f64 / messages,
            blocks: site.blocks as f64 / messages,
            peak_bytes: site.peak_bytes as f64,
            peak_blocks: site.peak_blocks as f64,
            live_bytes: site.live_bytes as f64,
            temporary: site.temporary as f64 / messages,
        });
        if site.bytes >= lines.bytes {
            let line = |from_leaf: Option<usize>| {
                from_leaf.and_then(|place| per.profile.lines(site).nth_back(place)).unwrap_or("")
            };
            *lines = Lines { leaf: line(Some(0)), caller: line(ends.caller_place), bytes: site.bytes };
        }
    }
    amounts
}

/// The two frames that a row is named after.
struct Ends<'a> {
    leaf: &'a str,
    caller: &'a str,
    /// How many frames above the leaf the caller is.
    caller_place: Option<usize>,
}

/// The allocating frame and the first one above it that is somewhere else.
fn ends<'a>(frames: impl DoubleEndedIterator<Item = &'a str> + Clone) -> Ends<'a> {
    fn module(name: &str) -> &str {
        name.rsplit_once("::").map_or("", |(module, _)| module)
    }
    let mut frames = frames.rev().enumerate();
    let leaf = frames.next().map_or("(no frames)", |(_, leaf)| leaf);
    let own = module(leaf);
    let mut rest = frames.clone();
    // `BytesMut::reserve_inner` is called by `BytesMut::reserve`, which says nothing new.
    let caller = rest.find(|(_, name)| module(name) != own).or_else(|| frames.next());
    let (caller_place, caller) = caller.unzip();
    Ends { leaf, caller: caller.unwrap_or("–"), caller_place }
}

/// A name cut to what a table can hold.
pub(crate) fn clipped(name: &str) -> String {
    figures::clipped(name, NAME_MAX)
}
