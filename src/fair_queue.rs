//! A bounded queue for work that anyone's request can cause: one client cannot fill it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};

/// How much work runs at a time, and how much runs or waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueSize {
    pub(crate) running: usize,
    pub(crate) places: usize,
}

impl QueueSize {
    pub(crate) const fn quarter(self) -> QueueSize {
        QueueSize {
            running: self.running / 4,
            places: self.places / 4,
        }
    }
}

/// A bounded queue, in which each client has a share.
#[derive(Debug)]
pub(crate) struct FairQueue {
    size: QueueSize,
    of_client: QueueSize,
    max_wait: Duration,
    places: Mutex<Places>,
    running: Semaphore,
}

/// The places that are taken, by work that runs or waits.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    clients: HashMap<Option<IpAddr>, ClientPlaces>,
}

#[derive(Debug)]
struct ClientPlaces {
    taken: usize,
    running: Arc<Semaphore>,
}

impl FairQueue {
    /// A queue of this size, of which one client has at most `of_client`. Nothing waits for longer than `max_wait`.
    pub(crate) fn new(size: QueueSize, of_client: QueueSize, max_wait: Duration) -> FairQueue {
        FairQueue {
            size,
            of_client,
            max_wait,
            places: Mutex::default(),
            running: Semaphore::new(size.running),
        }
    }

    /// Waits until the work of this client may run. `None` if the queue or the client's share is full, or if the wait is
    /// too long.
    pub(crate) async fn turn(&self, client: Option<IpAddr>) -> Option<Turn<'_>> {
        let place = Place::take(self, client)?;
        let permits = async {
            // First the client's permit: work behind a client at its limit does not wait for it.
            let of_client = place.running.clone().acquire_owned().await.ok()?;
            Some((of_client, self.running.acquire().await.ok()?))
        };
        let (of_client, running) = timeout(self.max_wait, permits).await.ok()??;
        Some(Turn {
            _running: running,
            _of_client: of_client,
            _place: place,
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let places = self.lock();
        places.taken == 0 && places.clients.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that runs: its place is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'q> {
    _running: SemaphorePermit<'q>,
    _of_client: OwnedSemaphorePermit,
    _place: Place<'q>,
}

/// A place in the queue, released when dropped.
#[derive(Debug)]
struct Place<'q> {
    queue: &'q FairQueue,
    client: Option<IpAddr>,
    running: Arc<Semaphore>,
}

impl Place<'_> {
    fn take(queue: &FairQueue, client: Option<IpAddr>) -> Option<Place<'_>> {
        let mut places = queue.lock();
        if places.taken >= queue.size.places {
            return None;
        }
        let of_client = places.clients.entry(client).or_insert_with(|| ClientPlaces {
            taken: 0,
            running: Arc::new(Semaphore::new(queue.of_client.running)),
        });
        // After this check `taken` is above zero, so that no empty entry stays.
        if of_client.taken >= queue.of_client.places {
            return None;
        }
        of_client.taken += 1;
        let running = of_client.running.clone();
        places.taken += 1;
        Some(Place { queue, client, running })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.queue.lock();
        places.taken = places.taken.saturating_sub(1);
        if let Some(of_client) = places.clients.get_mut(&self.client) {
            of_client.taken = of_client.taken.saturating_sub(1);
            if of_client.taken == 0 {
                places.clients.remove(&self.client);
            }
        }
    }
}
