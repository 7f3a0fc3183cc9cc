use crate::autodiff::Store;
use crate::tensor::Real;

/// `to[places[k]] = from[rows[k]]`, rows of `e`.
pub(super) fn copy<T: Real>(from: &[T], rows: &[u32], to: &mut [T], places: &[u32], e: usize) {
    for (&row, &place) in rows.iter().zip(places) {
        to[place as usize * e..][..e].copy_from_slice(&from[row as usize * e..][..e]);
    }
}

/// `dx[rows[k]] (+)= dy[places[k]]`; rows that were not taken have no gradient.
pub(super) fn give_back<T: Real>(dy: &[T], places: &[u32], dx: &mut [T], rows: &[u32], e: usize, store: Store) {
    if store == Store::Set {
        dx.fill(T::ZERO);
    }
    for (&row, &place) in rows.iter().zip(places) {
        let (to, from) = (&mut dx[row as usize * e..][..e], &dy[place as usize * e..][..e]);
        to.iter_mut().zip(from).for_each(|(to, &d)| *to += d);
    }
}
