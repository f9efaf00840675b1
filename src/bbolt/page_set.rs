//! A set of page ids, one bit per page of a file.

const WORD_BITS: u64 = 64;

/// Pages of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSet {
    words: Vec<u64>,
    pages: u64,
}

impl PageSet {
    /// The empty set for a file of `pages` pages, which are in memory or mapped already: this takes a bit for each.
    pub(super) fn new(pages: u64) -> PageSet {
        let words = usize::try_from(pages.div_ceil(WORD_BITS)).unwrap_or(0);
        PageSet {
            words: vec![0; words],
            pages,
        }
    }

    /// How many pages the file has.
    pub fn file_pages(&self) -> u64 {
        self.pages
    }

    /// Whether the page is in the set.
    pub fn contains(&self, page: u64) -> bool {
        let (word, bit) = Self::place(page);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many pages are in the set.
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether no page is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The pages of the set in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.bits(|word| word)
    }

    /// The pages of the file that are not in the set, in order.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        self.bits(|word| !word)
    }

    /// Adds a page; false when it was there before or the file has no such page.
    #[inline]
    pub(super) fn insert(&mut self, page: u64) -> bool {
        let (word, bit) = Self::place(page);
        match self.words.get_mut(word).filter(|_| page < self.pages) {
            Some(word) => {
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
            None => false,
        }
    }

    /// Adds a run of pages and returns the first that was there before or is not in the file; stops at it.
    #[inline]
    pub(super) fn insert_run(&mut self, first: u64, count: u64) -> Option<u64> {
        (first..first.saturating_add(count)).find(|page| !self.insert(*page))
    }

    pub(super) fn remove(&mut self, page: u64) {
        let (word, bit) = Self::place(page);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    fn place(page: u64) -> (usize, u64) {
        let word = usize::try_from(page / WORD_BITS).unwrap_or(usize::MAX);
        (word, 1 << (page % WORD_BITS))
    }

    fn bits(&self, of: impl Fn(u64) -> u64) -> impl Iterator<Item = u64> {
        let words = self.words.iter().zip((0..).step_by(WORD_BITS as usize));
        let set = words.flat_map(move |(word, base)| {
            let mut rest = of(*word);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| u64::from(rest.trailing_zeros()))?;
                rest &= rest - 1;
                Some(base + bit)
            })
        });
        set.take_while(|page| *page < self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_and_what_it_lacks_are_the_whole_file() {
        for pages in [0, 1, 63, 64, 65, 200] {
            let mut set = PageSet::new(pages);
            assert_eq!(set.missing().collect::<Vec<_>>(), (0..pages).collect::<Vec<_>>());
            for page in (0..pages).step_by(3) {
                assert!(set.insert(page) && !set.insert(page));
            }
            assert!(!set.insert(pages) && !set.contains(pages) && !set.insert(u64::MAX));
            assert_eq!(
                set.iter().collect::<Vec<_>>(),
                (0..pages).step_by(3).collect::<Vec<_>>()
            );
            assert_eq!(set.len() + set.missing().count() as u64, pages);
        }
    }

    #[test]
    fn a_run_stops_where_it_meets_another() {
        let mut set = PageSet::new(100);
        assert_eq!(set.insert_run(60, 10), None);
        assert_eq!(set.insert_run(50, 20), Some(60));
        assert_eq!(set.insert_run(98, 3), Some(100));
        set.remove(65);
        assert!(!set.contains(65) && set.contains(64));
    }
}
