//! Charts as inline SVG: pure functions from values to markup. Colour and theme are the style sheet's.
//!
//! Every chart is `role="img"` with its figures in words, so that nothing is only drawn.

use alloc_ladder::Stage;
use alloc_ladder::record::{Counts, HeapSample};
use maud::{Markup, PreEscaped, html};

use super::figures::Sample;
use super::parts;
use crate::cli::numbers;

/// The width of a bar's own coordinates; the style sheet stretches it.
const BAR: f64 = 1000.0;

/// A coordinate with at most two decimals: more are invisible and make the page larger.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn scaled(value: f64, max: f64, width: f64) -> f64 {
    if max > 0.0 { (value / max * width).clamp(0.0, width) } else { 0.0 }
}

/// One side of one step: its stages side by side, `max` wide.
pub(crate) fn stage_bar(label: &str, parts: &[(Stage, f64)], max: f64) -> Markup {
    let mut x = 0.0;
    let words: Vec<String> = parts
        .iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(stage, value)| format!("{} {}", words(*stage), numbers::bytes(*value)))
        .collect();
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label={ (label) ": " (words) } {
            rect.track width="1000" height="10" {}
            @for (stage, value) in parts {
                @let width = scaled(*value, max, BAR);
                @if width > 0.0 {
                    rect class=(fill(*stage)) x=(at(x)) width=(at(width.max(1.5))) height="10" {}
                    ({ x += width; PreEscaped("") })
                }
            }
        }
    }
}

/// One stage of one step with the previous step's outline around it.
pub(crate) fn outlined_bar(stage: Stage, value: f64, previous: Option<f64>, max: f64) -> Markup {
    let width = scaled(value, max, BAR);
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="1000" height="10" {}
            @if width > 0.0 { rect class=(fill(stage)) width=(at(width.max(3.0))) height="10" {} }
            // An outline around next to nothing would be all outline.
            @if let Some(previous) = previous.filter(|previous| scaled(*previous, max, BAR) >= 4.0) {
                rect.outline x="1" y="0.3" width=(at((scaled(previous, max, BAR) - 2.0).max(2.0))) height="9.4" {}
            }
        }
    }
}

/// A plain bar, `max` wide.
pub(crate) fn plain_bar(class: &str, value: f64, max: f64) -> Markup {
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="1000" height="10" {}
            rect class=(class) width=(at(scaled(value, max, BAR).max(2.0))) height="10" {}
        }
    }
}

/// Every timed run as a dot, the median as a tick, its interval as a band; the axis begins at zero.
pub(crate) fn dots(label: &str, sample: &Sample, max: f64) -> Markup {
    const WIDTH: f64 = 150.0;
    const MIDDLE: f64 = 12.0;
    let x = |value: f64| 4.0 + scaled(value, max, WIDTH - 8.0);
    let median = sample.median();
    let n = sample.values.len();
    let words = match sample.interval() {
        Some((low, high)) => format!(
            "{label}: median of {n} runs {}, {} {} to {}",
            numbers::number(median),
            parts::interval_words(n),
            numbers::number(low),
            numbers::number(high)
        ),
        None => format!("{label}: one run, {}", numbers::number(median)),
    };
    html! {
        svg.dots viewBox="0 0 150 24" role="img" aria-label=(words) {
            line.axis x1="4" x2="146" y1="12" y2="12" {}
            @if let Some((low, high)) = sample.interval() {
                rect.band x=(at(x(low) - 0.5)) y="3" width=(at(x(high) - x(low) + 1.0)) height="18" rx="1.5" {}
            }
            @for (index, value) in sample.values.iter().enumerate() {
                // Runs next to each other stand at different heights, the same ones on every rendering.
                circle cx=(at(x(*value))) cy=(at(MIDDLE + [0.0, -5.0, 4.0, -2.5, 6.0][index % 5])) r="1.6" {}
            }
            line.median x1=(at(x(median))) x2=(at(x(median))) y1="2" y2="22" {}
        }
    }
}

const PLOT_WIDTH: f64 = 460.0;
const PLOT_HEIGHT: f64 = 214.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 452.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 178.0;

fn plot(label: &str, content: Markup) -> Markup {
    html! {
        svg.plot viewBox={ "0 0 " (PLOT_WIDTH) " " (PLOT_HEIGHT) } role="img" aria-label=(label) { (content) }
    }
}

/// Blocks by log2 size, the previous step's as an outline. Square-root scale: small buckets stay visible.
pub(crate) fn size_histogram(label: &str, counts: &Counts, previous: Option<&Counts>) -> Markup {
    let all = || counts.sizes.iter().chain(previous.into_iter().flat_map(|counts| &counts.sizes));
    let most = all().map(|bucket| bucket.blocks).max().unwrap_or(0);
    if most == 0 {
        return html! { p.empty { "Nothing is allocated here any more." } };
    }
    let exponent = |bytes: u64| bytes.max(1).ilog2();
    let first = all().filter(|bucket| bucket.blocks > 0).map(|bucket| exponent(bucket.bytes_min)).min().unwrap_or(0);
    let last = all().filter(|bucket| bucket.blocks > 0).map(|bucket| exponent(bucket.bytes_min)).max().unwrap_or(0);
    // A few empty buckets at both ends keep the axis still from step to step.
    let (first, last) = (first.min(3), last.max(17));
    let slot = (RIGHT - LEFT) / f64::from(last - first + 1);
    let left = |bytes: u64| LEFT + slot * f64::from(exponent(bytes) - first);
    let height = |blocks: u64| (blocks as f64 / most as f64).sqrt() * (BOTTOM - TOP);
    let largest = counts.sizes.iter().max_by_key(|bucket| bucket.blocks);
    let words = largest.map_or_else(
        || format!("{label}: nothing allocated"),
        |bucket| {
            format!(
                "{label}: most blocks ({}) have {} to {} bytes",
                numbers::count(bucket.blocks),
                numbers::count(bucket.bytes_min),
                numbers::count((bucket.bytes_min * 2).saturating_sub(1))
            )
        },
    );
    plot(
        &words,
        html! {
            @for tick in size_ticks(most) {
                @let y = BOTTOM - height(tick);
                line.grid x1=(LEFT) x2=(RIGHT) y1=(at(y)) y2=(at(y)) {}
                @if tick > 0 { text.tick.end x=(LEFT - 8.0) y=(at(y + 4.0)) { (short(tick as f64)) } }
            }
            @for bucket in counts.sizes.iter().filter(|bucket| bucket.blocks > 0) {
                @let tall = height(bucket.blocks).max(1.0);
                rect.column x=(at(left(bucket.bytes_min) + 1.5)) y=(at(BOTTOM - tall))
                    width=(at(slot - 3.0)) height=(at(tall)) {
                    title { (numbers::count(bucket.blocks)) " blocks of " (numbers::count(bucket.bytes_min)) " B and up" }
                }
            }
            @for bucket in previous.into_iter().flat_map(|counts| &counts.sizes).filter(|bucket| bucket.blocks > 0) {
                @let tall = height(bucket.blocks).max(1.0);
                rect.outline x=(at(left(bucket.bytes_min) + 1.5)) y=(at(BOTTOM - tall))
                    width=(at(slot - 3.0)) height=(at(tall)) {}
            }
            @for power in (first..=last).filter(|power| power % 3 == 0) {
                text.tick.middle x=(at(LEFT + slot * (f64::from(power - first) + 0.5))) y="196" {
                    (size_label(1u64 << power))
                }
            }
        },
    )
}

/// Round numbers of blocks that are well apart on a square-root scale, and zero.
fn size_ticks(most: u64) -> Vec<u64> {
    let mut ticks = vec![0];
    for part in [0.12, 0.45, 1.0] {
        let value = (most as f64 * part).max(1.0);
        let magnitude = 10f64.powf(value.log10().floor());
        let first = [5.0, 2.0, 1.0].into_iter().find(|first| first * magnitude <= value).unwrap_or(1.0);
        ticks.push((first * magnitude) as u64);
    }
    ticks.dedup();
    ticks
}

fn size_label(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}"),
        1024..1_048_576 => format!("{} Ki", bytes / 1024),
        _ => format!("{} Mi", bytes / 1_048_576),
    }
}

/// Axis labels: `12 k` keeps the axis narrow where the exact figure is in a table anyhow.
fn short(value: f64) -> String {
    match value {
        value if value < 1e4 => numbers::grouped(value),
        value if value < 1e6 => format!("{} k", numbers::grouped(value / 1e3)),
        value => format!("{} M", numbers::grouped(value / 1e6)),
    }
}

/// Points beyond this many are thinned out, keeping the highest of each group: the peak is what the chart is for.
const HEAP_POINTS: usize = 120;

/// Live bytes as messages go by, the previous step dashed. The peak is a line of its own: the heap is looked at between
/// messages, and was at its largest within one.
pub(crate) fn heap(label: &str, counts: &Counts, previous: Option<&Counts>) -> Markup {
    let samples = thinned(&counts.heap);
    let before = previous.map(|counts| thinned(&counts.heap)).unwrap_or_default();
    let all = || samples.iter().chain(&before);
    let largest = all().map(|sample| sample.live_bytes).max().unwrap_or(0);
    let end = all().map(|sample| sample.messages).max().unwrap_or(0).max(1) as f64;
    let ceiling = nice_ceiling(largest.max(counts.peak_bytes).max(1) as f64);
    let x = |sample: &HeapSample| LEFT + sample.messages as f64 / end * (RIGHT - LEFT);
    let y = |bytes: f64| BOTTOM - bytes / ceiling * (BOTTOM - TOP);
    let line = |samples: &[HeapSample]| -> String {
        let points = samples.iter().map(|sample| format!("{},{}", at(x(sample)), at(y(sample.live_bytes as f64))));
        points.collect::<Vec<_>>().join(" ")
    };
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return html! { p.empty { "Not measured: the heap was not sampled." } };
    };
    let peak = y(counts.peak_bytes as f64);
    let peak_words = numbers::bytes(counts.peak_bytes as f64);
    plot(
        &format!("{label}: peak {peak_words}, {} at the end", numbers::bytes(last.live_bytes as f64)),
        html! {
            @for quarter in 0..=4 {
                @let value = ceiling * f64::from(quarter) / 4.0;
                line.grid x1=(LEFT) x2=(RIGHT) y1=(at(y(value))) y2=(at(y(value))) {}
                @if quarter % 2 == 0 && quarter > 0 {
                    text.tick.end x=(LEFT - 6.0) y=(at(y(value) + 4.0)) { (numbers::bytes(value)) }
                }
            }
            polygon.area points={ (at(x(first))) "," (BOTTOM) " " (line(&samples)) " " (at(x(last))) "," (BOTTOM) } {}
            @if !before.is_empty() { polyline.outline points=(line(&before)) {} }
            polyline.line points=(line(&samples)) {}
            line.peak x1=(LEFT) x2=(RIGHT) y1=(at(peak)) y2=(at(peak)) {}
            text.tick.strong.end x=(RIGHT) y=(at((peak - 5.0).max(10.0))) { "peak " (peak_words) }
            @for part in [0.0, 0.5, 1.0] {
                text class={ "tick " (if part == 1.0 { "end" } else { "middle" }) }
                    x=(at(LEFT + part * (RIGHT - LEFT))) y="196" { (numbers::grouped(end * part)) }
            }
        },
    )
}

fn thinned(samples: &[HeapSample]) -> Vec<HeapSample> {
    let group = samples.len().div_ceil(HEAP_POINTS).max(1);
    samples.chunks(group).filter_map(|chunk| chunk.iter().max_by_key(|sample| sample.live_bytes)).copied().collect()
}

/// The next power of two, or one and a half of one, with a little room: halves of it are round in binary units.
pub(crate) fn nice_ceiling(value: f64) -> f64 {
    let mut ceiling = 1.0;
    while ceiling < value * 1.05 {
        ceiling *= 2.0;
    }
    if ceiling * 0.75 >= value * 1.05 { ceiling * 0.75 } else { ceiling }
}

/// The class that fills with a stage's colour.
pub(crate) fn fill(stage: Stage) -> String {
    format!("stage-{}", stage.name())
}

/// A stage as words: `receive buffer`.
pub(crate) fn words(stage: Stage) -> String {
    stage.name().replace('-', " ")
}

/// The square that stands for a stage in legends and tables.
pub(crate) fn swatch(stage: Stage) -> Markup {
    html! {
        svg.swatch viewBox="0 0 10 10" aria-hidden="true" { rect class=(fill(stage)) width="10" height="10" rx="2" {} }
    }
}

/// The stages' colours by name.
pub(crate) fn legend(stages: impl Iterator<Item = Stage>) -> Markup {
    html! {
        ul.legend aria-label="Stages" { @for stage in stages { li { (swatch(stage)) " " (words(stage)) } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_drawn_where_it_was_and_not_where_it_was_seen() {
        let heap_of = |peak_bytes, live: &[u64]| {
            let heap =
                live.iter().zip(0..).map(|(live_bytes, messages)| HeapSample { messages, live_bytes: *live_bytes });
            Counts { peak_bytes, heap: heap.collect(), ..Counts::default() }
        };
        let (this, previous) = (heap_of(3000, &[1000, 2000, 1500]), heap_of(900, &[500, 500, 500]));
        let html = heap("Heap", &this, Some(&previous)).into_string();
        // The ceiling is 4096, the plot 164 high.
        let y = at(BOTTOM - 3000.0 / 4096.0 * (BOTTOM - TOP));
        assert!(html.contains(&format!(r#"class="peak" x1="66" x2="452" y1="{y}" y2="{y}""#)), "{html}");
        assert!(html.contains("peak 2.93"), "{html}");
        // A peak no sample comes near still lies inside the plot.
        let html = heap("Heap", &heap_of(1 << 20, &[1, 1]), None).into_string();
        let y: f64 = html
            .split(r#"class="peak""#)
            .nth(1)
            .and_then(|rest| rest.split(r#"y1=""#).nth(1))
            .and_then(|rest| rest.split('"').next())
            .and_then(|y| y.parse().ok())
            .expect("a line");
        assert!((TOP..=BOTTOM).contains(&y), "{y}");
    }
}
