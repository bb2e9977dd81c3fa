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
