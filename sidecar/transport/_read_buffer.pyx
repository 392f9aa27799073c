# cython: language_level=3
"""`read_buffer_python.ReadBuffer` without copies: the bytes that `take` returns are those that were read into."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF

cdef extern from "Python.h":
    # As in `cpython.bytes`, but with pointers that do not own: a bytes object is filled after it was made.
    PyObject* _new_bytes "PyBytes_FromStringAndSize"(const char* text, Py_ssize_t size) except NULL
    int _resize_bytes "_PyBytes_Resize"(PyObject** text, Py_ssize_t size) except -1
    char* _start "PyBytes_AS_STRING"(PyObject* text)


cdef class ReadBuffer:
    cdef PyObject* _bytes  # NULL if the next read needs new ones
    cdef Py_ssize_t _size

    def __cinit__(self, Py_ssize_t size):
        self._size = size

    def __dealloc__(self):
        Py_XDECREF(self._bytes)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self._bytes is NULL:
            self._bytes = _new_bytes(NULL, self._size)
        PyBuffer_FillInfo(view, self, _start(self._bytes), self._size, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass

    def space(self):
        return self

    def take(self, Py_ssize_t size):
        if self._bytes is NULL or size < 0 or size > self._size:
            raise ValueError(f"nothing was read, or not {size} bytes")
        if size < self._size // 4:  # copying them costs less than another buffer
            return PyBytes_FromStringAndSize(_start(self._bytes), size)
        cdef PyObject* filled = self._bytes
        self._bytes = NULL
        _resize_bytes(&filled, size)
        taken = <object>filled
        Py_DECREF(taken)  # it has two owners now
        return taken
