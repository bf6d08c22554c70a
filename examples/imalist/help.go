package main

const help = `Imalist shows and checks measurement lists of Linux IMA.

usage: imalist [flags] [FILE...]

A FILE is a list as the kernel shows it, binary or ASCII, with digests of any
bank, of a little- or big-endian machine, or a kexec buffer: imalist looks which.
Several are read as one list: the staged file first, then the current one. - is
standard input; a folder is read like /sys/kernel/security/ima. Without a FILE it
is the list of the running kernel, for which you must be root.

How to show it
  -o table         a line for each record, and lines with # where a boot begins (default)
  -o ascii         as in ascii_runtime_measurements, byte for byte
  -o json          a line of JSON for each record, every field decoded
  -o binary        as in binary_runtime_measurements
  -wide            in a table: whole digests, and template digests
  -follow          go on with what is measured from now on, until interrupted
  -every 1s        how often -follow looks
  -restore         of a kexec buffer: what the next kernel would restore

What to show (each narrows it down; several of -name and -match add up)
  -name GLOB       names like '/usr/bin/*'; * stands for slashes, too
  -match REGEXP    names in which the expression is found
  -template T,...  templates, such as ima-sig
  -pcr N,...       PCRs
  -boot N          boots, from 1: 2, 1-3, 2- or last

Checking it, instead of showing it
  -verify VALUES   replay the list and compare with the values of PCR 10
  -audit           judge for each boot how it began and whether records were lost
  -pcr N           check this PCR instead
  -prefix          take values that were read before the last records were measured
  -bank ALG,...    only these banks; else all that VALUES has
  -start VALUES    what the PCR was before the first record, if it was deleted
  -o json          the result as JSON

VALUES is one of
  tpm              this machine's TPM; with its own list -prefix goes without saying
  FILE             what tpm2_pcrread printed or evmctl --pcrs reads, lines like
                   "sha256:10 HEX", or a file like /sys/class/tpm/tpm0/pcr-sha256/10
  ALG,FILE         the same, where neither the file nor the values' size tells the bank
  FOLDER           a folder like /sys/class/tpm/tpm0
  /dev/tpmrm0      a TPM
  -                standard input
-verify may be given several times. Where VALUES has PCRs 0 to 9, boot_aggregate is
compared with them, too.

Both
  -digest ALG      the template digests are of this bank: for SM3, which is as long
                   as SHA-256, and for the lists of the running kernel
  -h               this text

Records are counted from 0, as in errors, and boots from 1.

Exit status: 0 shown, or the list proves the values; 1 it does not, or -audit
finds records lost, or a kernel would not restore the whole buffer; 2 wrong usage,
or something could not be read. What could be read is shown in any case.

Examples
  imalist                                        what this machine has measured
  imalist -boot last -name '/usr/bin/*'          ... programs, since the last kexec
  imalist -verify tpm                            ... and does the TPM confirm it?
  imalist -follow -o json | jq -r .name          names, as they are measured
  imalist -o ascii binary_runtime_measurements   the same list in the other form
  tpm2_pcrread sha256:10 | imalist -verify - list.bin
  imalist -verify sha1,pcrs.sha1 -verify sha256,pcrs.sha256 -audit list.bin
  ssh host cat /sys/kernel/security/ima/binary_runtime_measurements | imalist -
`
