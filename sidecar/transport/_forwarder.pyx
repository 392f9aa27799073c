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

    enum: EPOLLIN
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_DEL
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

DEF EVENTS = 256
DEF LARGE_READ = 32 * 1024


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
    cdef dict _flows  # by the descriptor of the source: the running ones
    cdef char* _buffer
    cdef Py_ssize_t _size
    cdef int _epoll

    def __cinit__(self, Py_ssize_t buffer_bytes):
        self._flows = {}
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
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.fd = flow.source
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, flow.source, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        self._flows[flow.source] = flow
        flow.running = True

    cpdef stop(self, Flow flow):
        if not flow.running:
            return
        flow.running = False
        del self._flows[flow.source]
        epoll_ctl(self._epoll, EPOLL_CTL_DEL, flow.source, NULL)

    def run(self):
        cdef epoll_event events[EVENTS]
        cdef int index, count = epoll_wait(self._epoll, events, EVENTS, 0)
        for index in range(count):
            flow = self._flows.get(events[index].data.fd)
            if flow is not None:  # else one of the events before has stopped it
                self._pass_on(<Flow>flow)

    cdef _pass_on(self, Flow flow):
        cdef ssize_t sent = 0, size = 0, count
        cdef int error = 0
        while True:
            count = recv(flow.source, self._buffer + size, self._size - size, MSG_DONTWAIT)
            if count <= 0:
                break
            size += count
            if count < LARGE_READ or size == self._size:  # else more may have arrived: fewer writes cost less
                break
        if count < 0 and errno != EAGAIN and errno != EINTR:
            error = errno
        if size:
            sent = max(send(flow.sink, self._buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL), 0)
            flow.moved_bytes += sent
        elif count < 0 and not error:
            return
        if sent < size or error or not size:
            self.stop(flow)
            flow._on_stop(PyBytes_FromStringAndSize(self._buffer + sent, size - sent), error)
