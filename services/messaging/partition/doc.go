// Package partition takes an accepted send to the gateways and into the archive.
//
// Conversations are spread over the partitions of a log. Commit puts a send into
// its partition's stream, and only then is the sender answered. Each partition
// has one worker at a time, on the instance that owns the partition: it reads
// the stream in order, numbers the entries of each conversation, hands them to
// the archive and meanwhile has them distributed to the gateways.
//
//	Log          the streams: commits, and what can be read of them
//	gates        whether a partition's stream is known to agree with the archive
//	reconciler   compares stream and archive and begins epochs
//	worker       one partition: sequencer, archive, distributor
//	distributor  pushes within the app's budget; what has to wait is deferred
//	Owner        which partitions are worked on here
package partition
