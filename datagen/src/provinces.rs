//! Where orders come from: China's 34 provincial-level divisions and their shares.

/// The 23 provinces, 5 autonomous regions, 4 municipalities and 2 special administrative regions
/// by their pinyin names, each with its share of orders in ten-thousandths.
///
/// The shares are rounded from the relative sizes of the divisions' economies, tilted towards the
/// coast as online sales are: the first five sell half of everything, the last five less than 1%.
/// `Shaanxi` and `Shanxi` are two provinces, spelt as they officially are.
pub const PROVINCES: [(&str, u32); 34] = [
    ("Guangdong", 1_640),
    ("Zhejiang", 1_180),
    ("Jiangsu", 1_050),
    ("Shandong", 640),
    ("Shanghai", 640),
    ("Beijing", 540),
    ("Fujian", 480),
    ("Sichuan", 420),
    ("Henan", 405),
    ("Hubei", 380),
    ("Hebei", 330),
    ("Hunan", 320),
    ("Anhui", 310),
    ("Liaoning", 210),
    ("Jiangxi", 190),
    ("Chongqing", 185),
    ("Shaanxi", 170),
    ("Guangxi", 150),
    ("Tianjin", 125),
    ("Yunnan", 120),
    ("Shanxi", 110),
    ("Heilongjiang", 75),
    ("Guizhou", 65),
    ("Jilin", 55),
    ("Neimenggu", 45),
    ("Xinjiang", 30),
    ("Hainan", 20),
    ("Xianggang", 25),
    ("Taiwan", 20),
    ("Ningxia", 20),
    ("Gansu", 15),
    ("Qinghai", 15),
    ("Xizang", 12),
    ("Aomen", 8),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PROVINCES;

    #[test]
    fn the_34_divisions_have_distinct_names_and_their_shares_make_a_whole() {
        let names: BTreeSet<_> = PROVINCES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 34);
        assert_eq!(
            PROVINCES.iter().map(|(_, share)| share).sum::<u32>(),
            10_000
        );
    }
}
