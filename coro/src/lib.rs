//! Stackful coroutines for one core: stacks, switch, scheduler, cancellation, timers
