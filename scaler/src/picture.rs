//! A table as a heat map: for the terminal, as SVG, as CSV.
//!
//! One panel a bin of the last axes; rows are the first axis, columns the second. A cell shows the
//! greedy action; hatched ones have been tried too seldom to be trusted.

use std::fmt::Write;

use crate::agent::layout::{Action, Layout};
use crate::agent::table::Table;

/// Visits of a state's best action below which it is hatched.
pub const TRUSTED: u64 = 30;

/// One state.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The state's bins.
    pub bins: Vec<usize>,
    /// Its best action.
    pub greedy: Action,
    /// How often that was tried.
    pub visits: u64,
    /// By how much it is better than the second best.
    pub gap: f64,
}

/// A drawing of a table.
#[derive(Clone, Debug)]
pub struct Picture {
    layout: Layout,
    tiles: Vec<Tile>,
}

impl Picture {
    /// What the table does at a price of `kappa` pod-seconds a late window.
    pub fn of(table: &Table, kappa: f64) -> Self {
        let layout = table.layout().clone();
        let tile = |state| {
            let cells = table.state(state);
            let best = table.greedy(state, kappa);
            let rest = cells.iter().enumerate().filter(|&(at, _)| at != best);
            let second = rest.map(|(_, c)| c.value(kappa)).fold(f64::MIN, f64::max);
            Tile {
                bins: layout.bins(state),
                greedy: layout.actions[best],
                visits: cells[best].visits,
                gap: cells[best].value(kappa) - second,
            }
        };
        let tiles = (0..layout.states()).map(tile).collect();
        Self { layout, tiles }
    }

    /// The states, a line each.
    pub fn csv(&self) -> String {
        let names: Vec<&str> = self.layout.axes.iter().map(|a| a.feature.name()).collect();
        let mut text = format!("{},greedy,visits,gap\n", names.join(","));
        for tile in &self.tiles {
            for (axis, &bin) in self.layout.axes.iter().zip(&tile.bins) {
                let _ = write!(text, "{},", axis.label(bin));
            }
            let _ = writeln!(text, "{},{},{}", tile.greedy.label(), tile.visits, tile.gap);
        }
        text
    }

    /// For a terminal that knows 256 colours.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "Greedy action by state. Colour: how much headroom; ░: tried fewer than 30 times.\n",
        );
        for panel in self.panels() {
            let _ = writeln!(text, "\n{}", panel.title);
            let _ = writeln!(text, "{}", panel.header("│"));
            for (label, row) in &panel.rows {
                let _ = write!(text, "{label:>12} ");
                for tile in row {
                    let hatch = if tile.visits < TRUSTED { '░' } else { ' ' };
                    let label = tile.greedy.label();
                    let shade = 232 + (boldness(tile.greedy) * 20.0) as u32;
                    let ink = if shade > 243 { 16 } else { 255 };
                    let _ = write!(
                        text,
                        "│\u{1b}[48;5;{shade};38;5;{ink}m{hatch}{label:^9}{hatch}\u{1b}[0m"
                    );
                }
                text.push_str("│\n");
            }
        }
        text
    }

    /// For a browser.
    pub fn svg(&self) -> String {
        const WIDTH: usize = 84;
        const HEIGHT: usize = 22;
        let panels = self.panels();
        let columns = panels.first().map_or(0, |panel| panel.columns.len());
        let rows = panels.first().map_or(0, |panel| panel.rows.len());
        let (panel_height, left) = ((rows + 3) * HEIGHT, 130);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<defs><pattern id=\"seldom\" width=\"6\" \
             height=\"6\" patternUnits=\"userSpaceOnUse\"><path d=\"M0 6L6 0\" stroke=\"#666\"/>\
             </pattern></defs>\n",
            left + (columns + 1) * WIDTH,
            panels.len() * panel_height
        );
        for (at, panel) in panels.iter().enumerate() {
            let top = at * panel_height + HEIGHT;
            let _ = writeln!(
                text,
                "<text x=\"4\" y=\"{top}\">{}</text>",
                escaped(&panel.title)
            );
            for (column, label) in panel.columns.iter().enumerate() {
                let (x, y) = (left + column * WIDTH + 4, top + HEIGHT);
                let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\">{}</text>", escaped(label));
            }
            for (row, (label, tiles)) in panel.rows.iter().enumerate() {
                let y = top + HEIGHT + 6 + row * HEIGHT;
                let line = y + 15;
                let _ = writeln!(text, "<text x=\"4\" y=\"{line}\">{}</text>", escaped(label));
                for (column, tile) in tiles.iter().enumerate() {
                    let x = left + column * WIDTH;
                    let light = 92 - (boldness(tile.greedy) * 60.0) as u32;
                    let fills = if tile.visits < TRUSTED {
                        &["colour", "url(#seldom)"][..]
                    } else {
                        &["colour"]
                    };
                    for &fill in fills {
                        let colour = format!("hsl(210 70% {light}%)");
                        let fill = if fill == "colour" { &colour } else { fill };
                        let _ = writeln!(
                            text,
                            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
                             fill=\"{fill}\" stroke=\"#fff\"/>"
                        );
                    }
                    let (at, action) = (x + 4, escaped(&tile.greedy.label()));
                    let _ = writeln!(
                        text,
                        "<text x=\"{at}\" y=\"{line}\">{action}<title>{} visits, gap {:.3}</title>\
                         </text>",
                        tile.visits, tile.gap
                    );
                }
            }
        }
        text.push_str("</svg>\n");
        text
    }

    fn panels(&self) -> Vec<Panel<'_>> {
        let (rows, columns) = (self.layout.axes.first(), self.layout.axes.get(1));
        let bins = |axis: Option<&crate::agent::layout::Axis>| axis.map_or(1, |axis| axis.bins());
        let (row_count, column_count) = (bins(rows), bins(columns));
        let count = self.tiles.len() / (row_count * column_count);
        let label = |axis: Option<&crate::agent::layout::Axis>, bin| {
            axis.map_or_else(String::new, |axis| axis.label(bin))
        };
        let panel = |panel: usize| Panel {
            title: self.title(&self.tiles[panel].bins),
            columns: (0..column_count).map(|bin| label(columns, bin)).collect(),
            rows: (0..row_count)
                .map(|row| {
                    let of = |column| &self.tiles[(row * column_count + column) * count + panel];
                    (label(rows, row), (0..column_count).map(of).collect())
                })
                .collect(),
        };
        (0..count).map(panel).collect()
    }

    /// Names the axes, and the bins of those that a panel fixes.
    fn title(&self, bins: &[usize]) -> String {
        let names: Vec<&str> = self.layout.axes.iter().map(|a| a.feature.name()).collect();
        let mut title = format!("{} ↓", names.first().unwrap_or(&"state"));
        if let Some(across) = names.get(1) {
            let _ = write!(title, "  {across} →");
        }
        for (axis, &bin) in self.layout.axes.iter().zip(bins).skip(2) {
            let _ = write!(title, "  {} {}", axis.feature.name(), axis.label(bin));
        }
        title
    }
}

struct Panel<'a> {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<&'a Tile>)>,
}

impl Panel<'_> {
    fn header(&self, bar: &str) -> String {
        let mut line = " ".repeat(13);
        for column in &self.columns {
            let _ = write!(line, "{bar}{column:^11}");
        }
        line + bar
    }
}

/// 0 for the most cautious action, 1 for the boldest that is drawn; holding is in the middle.
pub fn boldness(action: Action) -> f64 {
    let share = match action {
        Action::Hold => 0.5,
        Action::Headroom(headroom) => (1.7 - headroom) / 0.8,
        Action::Risk(share) => 0.5 - share.log10() / 2.0,
        Action::Step(step) => (1.0 - f64::from(step)) / 2.0,
    };
    share.clamp(0.0, 1.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
