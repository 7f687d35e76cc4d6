// The error classes on which a caller may decide something. Everything else is a built-in class.
// main.ts prints the message of these without a stack trace; a stack trace means a defect of ours.

/** Base of every error whose cause lies outside this program: a file, a flag, a device, a library. */
export class TinyllamaError extends Error {
  override name = "TinyllamaError";
}

/** A command line or configuration the user must correct. Ends the process with code 2. */
export class UsageError extends TinyllamaError {
  override name = "UsageError";
}

/** A file whose content is not what its format says. The message names the file. */
export class FormatError extends TinyllamaError {
  override name = "FormatError";
}

/** A device or library that was asked for and cannot be used. The message lists what was tried. */
export class DeviceError extends TinyllamaError {
  override name = "DeviceError";
}

/** An operation or dtype that this backend does not offer, or content that a format has no place for. */
export class UnsupportedError extends TinyllamaError {
  override name = "UnsupportedError";
}
