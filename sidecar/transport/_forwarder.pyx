# cython: language_level=3
"""`forwarder_python`, the same classes, without an object for each read and write."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd

    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data

    enum: EPOLLET
    enum: EPOLLIN
    enum: EPOLLPRI
    enum: EPOLLRDHUP
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_DEL
    enum: EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int descriptor, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int size, int timeout_ms)

cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    ssize_t recv(int descriptor, void* buffer, size_t size, int flags)
    ssize_t send(int descriptor, const void* buffer, size_t size, int flags)

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int descriptor)

DEF READS = 64
DEF LARGE_READ = 32 * 1024

# An edge-triggered event costs the kernel one look at the socket, a level-triggered one costs two.
cdef unsigned int EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET


cdef class Flow:
    cdef readonly int source
    cdef readonly int sink
    cdef readonly long long moved_bytes
    cdef readonly bint running
    cdef object _on_stop

    def __init__(self, int source, int sink, on_stop):
        self.source = source
        self.sink = sink
        self._on_stop = on_stop


cdef class Forwarder:
    cdef list _flows  # by the descriptor of the source; None where no flow runs
    cdef char* _buffer
    cdef Py_ssize_t _size
    cdef int _epoll

    def __cinit__(self, Py_ssize_t buffer_bytes):
        self._flows = []
        self._epoll = -1
        self._size = buffer_bytes
        self._buffer = <char*>PyMem_RawMalloc(buffer_bytes)
        if self._buffer is NULL:
            raise MemoryError
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, "epoll_create1")

    def __dealloc__(self):
        self.close()
        PyMem_RawFree(self._buffer)

    cpdef close(self):
        if self._epoll >= 0:
            c_close(self._epoll)
            self._epoll = -1

    def fileno(self):
        return self._epoll

    def start(self, Flow flow not None):
        self._watch(EPOLL_CTL_ADD, flow.source)
        while len(self._flows) <= flow.source:
            self._flows.append(None)
        self._flows[flow.source] = flow
        flow.running = True

    cpdef stop(self, Flow flow):
        if not flow.running:
            return
        flow.running = False
        self._flows[flow.source] = None
        epoll_ctl(self._epoll, EPOLL_CTL_DEL, flow.source, NULL)

    cdef _watch(self, int operation, int source):
        """The next event comes at once if there are bytes already, or else with the next bytes."""
        cdef epoll_event event
        event.events = EVENTS
        event.data.fd = source
        if epoll_ctl(self._epoll, operation, source, &event) < 0:
            raise OSError(errno, "epoll_ctl")

    def run(self):
        cdef epoll_event events[READS]
        cdef int index = 0, count, left = READS
        while left > 0:
            count = epoll_wait(self._epoll, events, left, 0)
            try:
                for index in range(count):
                    flow = self._flows[events[index].data.fd]
                    if flow is not None:  # else one of the events before has stopped it
                        self._pass_on(<Flow>flow, events[index].events)
            except:
                self._repeat(events + index + 1, count - index - 1)
                raise
            if count < 2:  # probably no more have arrived meanwhile
                break
            left -= count

    cdef _repeat(self, epoll_event* events, int count):
        """Lets the events come again: they were not handled."""
        cdef int index
        for index in range(count):
            if self._flows[events[index].data.fd] is not None:
                self._watch(EPOLL_CTL_MOD, events[index].data.fd)

    cdef _pass_on(self, Flow flow, unsigned int events):
        cdef ssize_t sent = 0, size = 0, count, wanted
        cdef int error = 0
        cdef bint is_empty  # the source: it has neither bytes nor an end, and its next event is a new one
        while True:
            wanted = self._size - size
            count = recv(flow.source, self._buffer + size, wanted, MSG_DONTWAIT)
            if count <= 0:
                break
            size += count
            if count < LARGE_READ or count == wanted:  # else more may have arrived: fewer writes cost less
                break
        if count < 0:
            is_empty = errno == EAGAIN
            if errno != EAGAIN and errno != EINTR:
                error = errno
        else:  # beyond EPOLLIN: an end, an error, or urgent data, which divides the bytes into two reads
            is_empty = 0 < count < wanted and events == EPOLLIN
        if size:
            sent = max(send(flow.sink, self._buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL), 0)
            flow.moved_bytes += sent
        if sent < size or error or (not size and not count):
            self.stop(flow)
            flow._on_stop(PyBytes_FromStringAndSize(self._buffer + sent, size - sent), error)
        elif not is_empty:
            self._watch(EPOLL_CTL_MOD, flow.source)
