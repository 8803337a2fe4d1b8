// Goroutines between two cores, over Go's channels. Each of the two has a thread of its own, pinned to its CPU: left alone, Go would run
// both on one.
//
// usage: cores WORK NUMBER WARM_UP_NS MEASURE_NS CPU PEER, where NUMBER is the bytes of a message or the pause in nanoseconds.
// It says "sample VALUE..." as every subject of the harness does.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	capacity  = 1024
	streamLap = 256 * 1024
	sleptLap  = 200
)

var number, cpu, peer int64
var warmUp, measure time.Duration

func pin(cpu int64) {
	runtime.LockOSThread()
	var mask [16]uint64
	mask[cpu/64] = 1 << (cpu % 64)
	_, _, failed := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
	if failed != 0 {
		panic(failed)
	}
}

// Starts a goroutine on the other core.
func there(body func()) {
	go func() {
		pin(peer)
		body()
	}()
}

// Repeats a lap of so many operations until the time is over, and says the median of nanoseconds an operation.
func meter(operations int, lap func()) {
	var laps []float64
	for begin := time.Now(); len(laps) == 0 || time.Since(begin) < warmUp+measure; {
		start := time.Now()
		lap()
		took := time.Since(start)
		if time.Since(begin) > warmUp {
			laps = append(laps, float64(took.Nanoseconds())/float64(operations))
		}
	}
	sort.Float64s(laps)
	fmt.Println("sample", laps[len(laps)/2])
}

func check(right bool) {
	if !right {
		panic("in order and whole")
	}
}

func pingPong() {
	ping, pong := make(chan uint64, capacity), make(chan uint64, capacity)
	there(func() {
		for word := range ping {
			pong <- word
		}
	})
	meter(sleptLap, func() {
		for word := uint64(0); word < sleptLap; word++ {
			ping <- word
			check(<-pong == word)
		}
	})
}

type words8 [8]uint64

func stream8() {
	messages := make(chan uint64, capacity)
	there(func() {
		for n := uint64(0); ; n++ {
			messages <- n
		}
	})
	expected := uint64(0)
	meter(streamLap, func() {
		for i := 0; i < streamLap; i++ {
			check(<-messages == expected)
			expected++
		}
	})
}

func stream64() {
	messages := make(chan words8, capacity)
	there(func() {
		for n := uint64(0); ; n++ {
			messages <- words8{n, n, n, n, n, n, n, n}
		}
	})
	expected := uint64(0)
	meter(streamLap, func() {
		for i := 0; i < streamLap; i++ {
			message := <-messages
			check(message == words8{expected, expected, expected, expected, expected, expected, expected, expected})
			expected++
		}
	})
}

func wake() {
	begin := time.Now()
	messages := make(chan uint64, capacity)
	var sent, latency, heard int64
	there(func() {
		for range messages {
			atomic.StoreInt64(&latency, int64(time.Since(begin))-atomic.LoadInt64(&sent))
			atomic.AddInt64(&heard, 1)
		}
	})
	var latencies []float64
	for count := int64(1); time.Since(begin) < warmUp+measure; count++ {
		for paused := time.Now(); time.Since(paused) < time.Duration(number); {
		}
		atomic.StoreInt64(&sent, int64(time.Since(begin)))
		messages <- 1
		for atomic.LoadInt64(&heard) != count {
		}
		if time.Since(begin) >= warmUp {
			latencies = append(latencies, float64(atomic.LoadInt64(&latency))/1e3)
		}
	}
	sort.Float64s(latencies)
	fmt.Println("sample", latencies[(len(latencies)-1)*50/100], latencies[(len(latencies)-1)*99/100])
}

type call struct {
	f      func() int
	answer chan int
}

func calls() {
	inbox := make(chan call, capacity)
	there(func() {
		for call := range inbox {
			call.answer <- call.f()
		}
	})
	meter(sleptLap, func() {
		for n := 0; n < sleptLap; n++ {
			n := n
			answer := make(chan int, 1)
			inbox <- call{func() int { return n }, answer}
			check(<-answer == n)
		}
	})
}

func main() {
	given := func(at int) int64 {
		number, failed := strconv.ParseInt(os.Args[at], 10, 64)
		if failed != nil {
			panic(failed)
		}
		return number
	}
	number, cpu, peer = given(2), given(5), given(6)
	warmUp, measure = time.Duration(given(3)), time.Duration(given(4))
	runtime.GOMAXPROCS(2)
	pin(cpu)
	switch os.Args[1] {
	case "ping_pong":
		pingPong()
	case "stream":
		if number == 8 {
			stream8()
		} else {
			stream64()
		}
	case "wake":
		wake()
	case "call":
		calls()
	}
}
