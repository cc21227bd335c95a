//! Finding the way past a damaged place in the records: keys as one large number, and a search for where
//! reading works again.

/// The key after `key` by `2^bit`, as a number of `key.len()` bytes, the first byte the highest; `None` past
/// the last key.
fn plus(key: &[u8], bit: usize) -> Option<Vec<u8>> {
    let mut sum = key.to_vec();
    let mut at = sum.len().checked_sub(1 + bit / 8)?;
    let mut carry = 1_u16 << (bit % 8);
    loop {
        let byte = u16::from(sum[at]) + carry;
        sum[at] = byte.to_be_bytes()[1];
        carry = byte >> 8;
        if carry == 0 {
            return Some(sum);
        }
        at = at.checked_sub(1)?;
    }
}

/// The first place after `key` from where reading works, found with some 2 x 8 x `key.len()` tries;
/// `None` when it works nowhere. A place that works between two that do not may be passed over, and all
/// that is in it counts as damaged.
pub(crate) fn next_readable(key: &[u8], mut is_readable: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
    // Steps that double find a readable place, at most twice as far as the nearest, or the end of the keys.
    let bits = key.len() * 8;
    let step = (0..bits).find(|bit| plus(key, *bit).is_none_or(|place| is_readable(&place)));
    let step = step.unwrap_or(bits);
    // Then bit by bit the last unreadable place before it.
    let mut last = match step.checked_sub(1) {
        Some(before) => plus(key, before)?,
        None => key.to_vec(),
    };
    for bit in (0..step.saturating_sub(1)).rev() {
        match plus(&last, bit) {
            Some(place) if !is_readable(&place) => last = place,
            _ => {}
        }
    }
    plus(&last, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_up_like_numbers_and_end() {
        assert_eq!(plus(&[0, 0], 0), Some(vec![0, 1]));
        assert_eq!(plus(&[0, 255], 0), Some(vec![1, 0]));
        assert_eq!(plus(&[1, 0], 9), Some(vec![3, 0]));
        assert_eq!(plus(&[255, 255], 0), None);
        assert_eq!(plus(&[0, 0], 16), None);
    }

    #[test]
    fn the_first_readable_place_after_any_damaged_range_is_found() {
        let number = |key: &[u8]| u32::from_be_bytes([0, 0, key[0], key[1]]);
        for begin in [0_u16, 1, 7, 255, 256, 4000, 65_000] {
            for length in [1_u32, 2, 3, 100, 255, 256, 257, 500, 30_000, 40_000, 65_000] {
                let end = u32::from(begin) + length;
                let found = next_readable(&begin.to_be_bytes(), |key| number(key) > end);
                let expected = u16::try_from(end + 1)
                    .ok()
                    .map(|next| next.to_be_bytes().to_vec());
                assert_eq!(found, expected, "{begin} + {length}");
            }
        }
    }
}
