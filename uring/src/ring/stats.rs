//! What a ring counts. Plain numbers of one thread; whoever wants to publish them takes a copy now and then.

/// What a ring has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Operations submitted.
    pub submitted: u64,
    /// CQEs reaped, of whatever kind.
    pub reaped: u64,
    /// Times that the kernel was entered to submit or wait. A large batch goes in by several system calls, and counts once.
    pub enters: u64,
    /// Times that the kernel was out of memory or room (`EAGAIN`, `EBUSY`) and had to be asked again.
    pub busy: u64,
    /// Times that the submission queue was full and was flushed early.
    pub sq_full: u64,
    /// Times that the completion queue was full and completions spilled into kernel memory.
    pub overflows: u64,
    /// Completions that named no live operation.
    pub stale: u64,
    /// Cancels asked for.
    pub cancels: u64,
    /// Cancels that found no room in the submission queue and were kept for a later turn.
    pub cancels_kept: u64,
    /// Times that a multishot operation was ended because too many of its completions waited for their owner.
    pub crowded: u64,
    /// Wake-ups heard.
    pub wakes: u64,
    /// Wake-ups sent to other rings.
    pub doorbells: u64,
    /// Wake-ups that could not be delivered, because the other ring was gone.
    pub doorbells_failed: u64,
}
