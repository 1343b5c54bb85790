//! What has been learned: two values and a count for every pair of state and action.

use super::layout::Layout;

/// A pair's values. Their price-weighted sum, `cost + κ · late`, is what the agent maximizes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Expected discounted reward for pod-seconds (negative cost above what is needed).
    pub cost: f64,
    /// Expected discounted reward for late windows, at a price of 1 a window.
    pub late: f64,
    /// How often the pair has been tried.
    pub visits: u64,
}

impl Cell {
    /// Q at a price of `kappa` pod-seconds a late window.
    pub fn value(&self, kappa: f64) -> f64 {
        self.cost + kappa * self.late
    }
}

/// A Q-table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    layout: Layout,
    cells: Vec<Cell>,
}

impl Table {
    /// A table of a layout, filled by `prior(bins, action)`.
    pub fn new(layout: Layout, mut prior: impl FnMut(&[usize], usize) -> f64) -> Self {
        let mut cells = Vec::with_capacity(layout.pairs());
        for state in 0..layout.states() {
            let bins = layout.bins(state);
            for action in 0..layout.actions.len() {
                cells.push(Cell {
                    cost: prior(&bins, action),
                    ..Cell::default()
                });
            }
        }
        Self { layout, cells }
    }

    /// A table of known cells; `None` if their number is not the layout's.
    pub fn of(layout: Layout, cells: Vec<Cell>) -> Option<Self> {
        (cells.len() == layout.pairs()).then_some(Self { layout, cells })
    }

    /// Its axes and actions.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All cells, action by action, state by state.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cells of a state, an action each.
    pub fn state(&self, state: usize) -> &[Cell] {
        let actions = self.layout.actions.len();
        &self.cells[state * actions..(state + 1) * actions]
    }

    /// One cell.
    pub fn cell(&self, pair: Pair) -> &Cell {
        &self.cells[self.at(pair)]
    }

    /// One cell, to change it.
    pub fn cell_mut(&mut self, pair: Pair) -> &mut Cell {
        let at = self.at(pair);
        &mut self.cells[at]
    }

    /// The best action of a state, the first of equals.
    pub fn greedy(&self, state: usize, kappa: f64) -> usize {
        let cells = self.state(state);
        let mut best = 0;
        for at in 1..cells.len() {
            if cells[at].value(kappa) > cells[best].value(kappa) {
                best = at;
            }
        }
        best
    }

    fn at(&self, pair: Pair) -> usize {
        pair.state * self.layout.actions.len() + pair.action
    }
}

/// A state and the action taken in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Number of the state.
    pub state: usize,
    /// Number of the action.
    pub action: usize,
}
