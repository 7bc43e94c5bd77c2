//! Tables for terminals: columns as wide as their widest cell, numbers to the right.

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of a table, the head first. Control characters of other people's texts are left out.
pub(super) fn lines(head: &[(&str, Side)], rows: &[Vec<String>]) -> Vec<String> {
    let clean = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    let head_cells = head.iter().map(|(name, _)| name.to_uppercase()).collect();
    let cells: Vec<Vec<String>> = std::iter::once(head_cells)
        .chain(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
        .collect();
    let width = |place: usize| {
        cells.iter().filter_map(|row: &Vec<String>| row.get(place)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let set = |row: &Vec<String>| {
        let columns = row.iter().zip(&widths).zip(head).map(|((cell, width), (_, side))| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        columns.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_nothing_moves_the_cursor() {
        let rows = [vec!["a\u{1b}[2J".to_owned(), "1.50".to_owned()], vec!["longer".to_owned(), "-12.00".to_owned()]];
        let told = lines(&[("name", Side::Left), ("sum", Side::Right)], &rows);
        assert_eq!(told, ["NAME       SUM", "a[2J      1.50", "longer  -12.00"]);
    }
}
