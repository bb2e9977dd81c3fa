//! The slots that deliveries run in: a node's own, or those of a pool that nodes share.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room to run one delivery; dropping it lets the next have it.
pub(crate) type Slot = OwnedSemaphorePermit;

/// A number of slots. Clones share them.
///
/// Whoever waits gets a slot in the order of asking, so that no node of a pool starves.
#[derive(Debug, Clone)]
pub(crate) struct SlotPool {
    own: Arc<Semaphore>,
    /// The slots of another pool, for when all of this one are taken.
    overflow: Option<Arc<Semaphore>>,
}

impl SlotPool {
    /// A pool of `count` slots.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            own: Arc::new(Semaphore::new(count)),
            overflow: None,
        }
    }

    /// This pool; when its slots are taken, those of `other` are used. What `other` overflows into is not.
    #[must_use]
    pub(crate) fn overflowing_into(mut self, other: &Self) -> Self {
        self.overflow = Some(Arc::clone(&other.own));
        self
    }

    /// Has as many more slots as `to` is above `from`. If it is below, slots go as they become free.
    pub(crate) fn resize(&self, from: usize, to: usize) {
        self.own.add_permits(to.saturating_sub(from));
        let surplus = from.saturating_sub(to);
        let left = surplus - self.own.forget_permits(surplus);
        let Ok(left) = u32::try_from(left) else {
            return;
        };
        if left > 0 {
            let own = Arc::clone(&self.own);
            // In line with all who wait for a slot, so that nobody gets one that is to go.
            tokio::spawn(async move {
                if let Ok(slots) = own.acquire_many_owned(left).await {
                    slots.forget();
                }
            });
        }
    }

    /// A slot, if one is free and nobody waits for it.
    pub(crate) fn try_acquire(&self) -> Option<Slot> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok();
        own.or_else(|| {
            let overflow = self.overflow.as_ref()?;
            Arc::clone(overflow).try_acquire_owned().ok()
        })
    }

    /// Waits for a slot. Cancel safe: dropping the future gives up the place in the queue.
    pub(crate) fn acquire(&self) -> impl Future<Output = Slot> + Send + use<> {
        let own = Arc::clone(&self.own).acquire_owned();
        let overflow = self.overflow.clone().map(Semaphore::acquire_owned);
        async move {
            let slot = match overflow {
                None => own.await,
                Some(overflow) => tokio::select! {
                    biased;
                    slot = own => slot,
                    slot = overflow => slot,
                },
            };
            slot.expect("the semaphore of slots is never closed")
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_pool_overflows_into_its_partner_and_not_further() {
        let (a, b, c) = (SlotPool::new(1), SlotPool::new(1), SlotPool::new(1));
        let b = b.overflowing_into(&c);
        let a = a.overflowing_into(&b);
        let first = a.try_acquire().expect("its own is free");
        let second = a.try_acquire().expect("its partner's is free");
        assert!(
            a.try_acquire().is_none(),
            "not that of its partner's partner"
        );
        assert!(b.try_acquire().is_some(), "which its partner may use");
        let mut waiting = std::pin::pin!(a.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        drop(waiting.await);
        drop(first);
        assert!(a.try_acquire().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn its_size_changes_while_slots_are_taken() {
        let settled = async || tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let pool = SlotPool::new(3);
        let mut taken: Vec<_> = (0..3).filter_map(|_| pool.try_acquire()).collect();
        pool.resize(3, 1);
        settled().await;
        taken.truncate(1);
        settled().await;
        assert!(pool.try_acquire().is_none(), "two of three are gone");
        taken.clear();
        settled().await;
        let one = pool.try_acquire();
        assert!(one.is_some() && pool.try_acquire().is_none());
        pool.resize(1, 20);
        assert_eq!(
            (0..30)
                .filter_map(|_| pool.try_acquire().map(Slot::forget))
                .count(),
            19
        );
    }

    #[tokio::test]
    async fn who_asks_first_is_served_first() {
        let pool = SlotPool::new(1);
        let partner = SlotPool::new(1).overflowing_into(&pool);
        let (taken, own) = (pool.try_acquire(), partner.try_acquire());
        assert!(taken.is_some() && own.is_some());
        let mut first = std::pin::pin!(partner.acquire());
        let mut second = std::pin::pin!(pool.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(taken);
        assert!(pool.try_acquire().is_none(), "nobody overtakes who waits");
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_some());
        assert!(second.as_mut().now_or_never().is_some());
    }
}
