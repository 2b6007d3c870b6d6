//! Plots as files: SVG, PNG, or a page that holds the SVG and follows the reader's dark or light scheme.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::text::escape;
use super::{Chart, HeatMap, svg};

/// Pixels of a PNG per unit of its SVG, so that text is sharp on screens of today.
const SCALE: f32 = 2.0;

/// The format of a file; its ending decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Svg,
    Png,
    Html,
}

impl Kind {
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            "html" | "htm" => Some(Self::Html),
            _ => None,
        }
    }
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    Chart(Chart),
    HeatMap(HeatMap),
}

/// Writes a plot. An existing file is replaced.
pub fn write(picture: &Picture, path: &Path) -> anyhow::Result<()> {
    let kind = Kind::of(path).context("the file does not end in .svg, .png or .html")?;
    let svg = picture.to_svg().context("there is nothing to draw")?;
    let bytes = match kind {
        Kind::Svg => svg.into_bytes(),
        Kind::Html => page(picture, &svg).into_bytes(),
        Kind::Png => to_pixels(&svg)?.encode_png().context("cannot encode the picture as PNG")?,
    };
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

impl Picture {
    /// `None` where there is nothing to draw.
    pub fn to_svg(&self) -> Option<String> {
        match self {
            Self::Chart(chart) => svg::chart(chart).map(|(svg, _)| svg),
            Self::HeatMap(map) => svg::heat_map(map),
        }
    }
}

/// The pixels of an SVG that this module has written.
fn to_pixels(svg: &str) -> anyhow::Result<Pixmap> {
    let options =
        usvg::Options { fontdb: fonts(svg), font_family: svg::FONT.to_owned(), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).context("the picture is not valid SVG")?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("the picture is too large")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("not enough memory for the picture")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels)
}

/// An embedded font, so that no font has to be installed and text is the same on every machine. It has Latin, Greek,
/// Cyrillic, Arabic, Armenian and Georgian letters; for others (names of locations in Chinese) the fonts of the system
/// are searched as well, and without one of them such a letter is a box.
fn fonts(svg: &str) -> Arc<fontdb::Database> {
    static EMBEDDED: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let embedded = EMBEDDED.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family(svg::FONT);
        Arc::new(fonts)
    });
    let is_embedded = |char: char| char < '\u{0700}' || ('\u{2000}'..'\u{2800}').contains(&char);
    if svg.chars().all(is_embedded) {
        return Arc::clone(embedded);
    }
    let mut fonts = fontdb::Database::clone(embedded);
    fonts.load_system_fonts();
    Arc::new(fonts)
}

fn page(picture: &Picture, svg: &str) -> String {
    let title = match picture {
        Picture::Chart(chart) => &chart.title,
        Picture::HeatMap(map) => &map.title,
    };
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark }}\nbody {{ margin: 2em; background: #fff }}\n\
         svg {{ max-width: 100%; height: auto }}\n\
         @media (prefers-color-scheme: dark) {{ body {{ background: #000 }} svg {{ filter: invert(1) hue-rotate(180deg) }} }}\n\
         </style>\n{svg}\n</html>\n"
    )
}

#[cfg(test)]
mod tests;
