"""What the vendor's status numbers mean, and what to do about them. Knows no call."""

from __future__ import annotations

SUCCESS = 1
NO_DEVICE = 1015

MEANINGS = {
    666: "an error that the library does not know",
    1001: "the USB library cannot be loaded: install libusb-1.0-0",
    1007: "trouble on the USB connection: look at the cable",
    1008: "the USB interface cannot be claimed: another program, such as the ROS driver, holds the arm",
    1009: "a device of an unknown type",
    1010: "the library was not initialised",
    1011: "the USB library does not find the device: look at the cable and the arm's power",
    1012: "the USB library is busy",
    1013: "this version of the library cannot do it",
    1014: "a packet could not be sent",
    NO_DEVICE: (
        "no arm found: is the cable plugged in and the arm powered, does a udev rule give this user the device, "
        "does another program (the ROS driver, a second bridge) hold it? Virtual machines often hide it"
    ),
    1016: "the operation was not completed",
    1020: "the arm did not answer in time",
    1021: "not available over this connection",
    1022: "the arm did not answer in time",
    2001: "the library could not be initialised",
    2002: "the communication library cannot be loaded: it has to lie where the loader finds it, see LD_LIBRARY_PATH",
    2004: "communication with the arm failed",
    2006: "the communication library cannot be initialised",
    2012: "a semaphore of the system could not be made",
    2100: "a parameter is not valid",
    2101: "the library was not initialised",
    9999: "the arm refused the command",
}


def meaning(status: int) -> str:
    """A status in words."""
    return f"status {status}: {MEANINGS.get(status, 'see the error codes in the header of the library')}"
