//! `--plot`, which several verbs take: a picture instead of rows.

use clap::Args;

use crate::error::UsageError;
use crate::output::Output;
use crate::plot::files::{self, Picture};
use crate::plot::terminal::{self, Size};
use crate::plot::{MOST_SERIES, Series, Target};
use crate::reading::Metric;

#[derive(Debug, Clone, Default, Args)]
pub struct PlotArgs {
    /// Draw it: in the terminal, or to FILE.svg, FILE.png or FILE.html
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub plot: Option<Target>,
}

impl PlotArgs {
    /// Draws, if there is anything to draw.
    pub fn show(&self, picture: &Picture, output: &Output) -> anyhow::Result<()> {
        match &self.plot {
            None => Ok(()),
            Some(Target::Terminal) => {
                let text = match picture {
                    Picture::Chart(chart) => {
                        terminal::chart(chart, Size::of_terminal(output.stdout_is_terminal), output.color)
                    }
                    Picture::HeatMap(map) => terminal::heat_map(map, output.color),
                };
                output.print(text.unwrap_or_else(|| "there is nothing to draw".to_owned()).trim_end())
            }
            Some(Target::File(path)) => {
                files::write(picture, path)?;
                output.note(format!("drawn to {}", path.display()));
                Ok(())
            }
        }
    }
}

/// Such as `temperature (°C)`.
pub fn title(metric: &Metric) -> String {
    let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
    format!("{metric}{unit}")
}

/// Lines that cannot be told from each other are none.
pub fn at_most_told_apart(series: &mut Vec<Series>, sensors: usize, output: &Output) {
    if series.len() > MOST_SERIES {
        output.note(format!("drawing {MOST_SERIES} of {sensors} sensors (--sensor ID draws one)"));
        series.truncate(MOST_SERIES);
    }
}

/// Refuses what has no time to draw it over.
pub fn refused(remedy: &str) -> anyhow::Error {
    UsageError::new(format!("--plot draws values over time ({remedy})")).into()
}
