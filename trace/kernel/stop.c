//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Three programs share one map:
 *
 *   mark       notes in a TCP socket's own storage which side began it
 *   walk       one pass over all open sockets and pipes of all processes
 *   direction  reads the note of one connection, given its addresses
 *
 * The note lives and dies with the socket, so nothing can be flooded out. */
#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pid.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFIFO 0010000
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define FMODE_READ 1
#define FMODE_WRITE 2

enum { UNKNOWN, OUTBOUND, INBOUND };

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} directions SEC(".maps");

/* Sockets of a BPF program's context are another type than the kernel's; the
 * helpers take either. */
SEC("sockops")
int mark(struct bpf_sock_ops *ops)
{
	__u32 side;

	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		side = OUTBOUND;
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		side = INBOUND;
		break;
	default:
		return 1;
	}
	struct bpf_sock *sk = ops->sk;
	if (!sk)
		return 1;
	__u32 *note = bpf_sk_storage_get(&directions, sk, &side, BPF_SK_STORAGE_GET_F_CREATE);
	/* connect(2) with AF_UNSPEC dissolves a connection and keeps the socket,
	 * whose note would then be about the connection before. */
	if (note)
		*note = side;
	return 1;
}

/* One open socket or pipe; 96 bytes, read by Go in host order. */
struct held {
	__u32 pid;	/* thread group, as seen from the namespace below */
	__u32 parent;
	__u64 start;	/* ns since boot, suspend included */
	__u32 netns;	/* of the task */
	__u32 fd;
	__u64 inode;
	__u32 dev;	/* in the kernel's encoding: major << 20 | minor */
	__u32 sock_netns;
	__u16 mode;
	__u16 local_port;
	__u16 remote_port;
	__u8 family;	/* 0 where the rest says nothing */
	__u8 state;
	__u8 protocol;
	__u8 direction;
	__u8 access;	/* FMODE_READ and FMODE_WRITE, as the file is open */
	__u8 unused[5];
	__u8 local[16];	/* of a UNIX socket: the inode of its other end */
	__u8 remote[16];
};

static __always_inline void addresses(struct held *h, struct sock *sk)
{
	h->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	h->sock_netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (h->family == AF_UNIX) {
		struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
		struct socket *end = peer ? BPF_CORE_READ(peer, sk_socket) : 0;
		if (end)
			*(__u64 *)h->local = BPF_CORE_READ((struct socket_alloc *)end, vfs_inode.i_ino);
		return;
	}
	if (h->family != AF_INET && h->family != AF_INET6)
		return;
	h->protocol = BPF_CORE_READ(sk, sk_protocol);
	h->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	h->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	h->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (h->family == AF_INET) {
		BPF_CORE_READ_INTO((__be32 *)h->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__be32 *)h->remote, sk, __sk_common.skc_daddr);
		return;
	}
	BPF_CORE_READ_INTO((struct in6_addr *)h->local, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO((struct in6_addr *)h->remote, sk, __sk_common.skc_v6_daddr);
}

SEC("iter/task_file")
int walk(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct held h = {};

	if (!task || !file)
		return 0;
	h.mode = file->f_inode->i_mode;
	if ((h.mode & S_IFMT) != S_IFSOCK && (h.mode & S_IFMT) != S_IFIFO)
		return 0;
	h.pid = pid_seen(task->group_leader);
	if (!h.pid)
		return 0;
	h.parent = pid_seen(task->real_parent->group_leader);
	h.start = BPF_CORE_READ(task, group_leader, start_boottime);
	h.netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	h.fd = ctx->fd;
	h.access = BPF_CORE_READ(file, f_mode) & (FMODE_READ | FMODE_WRITE);
	h.inode = BPF_CORE_READ(file, f_inode, i_ino);
	h.dev = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	if ((h.mode & S_IFMT) == S_IFSOCK) {
		struct socket *s = bpf_sock_from_file(file);
		if (s) {
			struct sock *sk = s->sk;
			if (sk) {
				addresses(&h, sk);
				__u32 *side = bpf_sk_storage_get(&directions, sk, 0, 0);
				if (side)
					h.direction = *side;
			}
		}
	}
	bpf_seq_write(ctx->meta->seq, &h, sizeof(h));
	return 0;
}

/* The addresses come in the packet, as struct bpf_sock_tuple preceded by its
 * length; the answer is one of the directions. Run in the connection's network
 * namespace. */
SEC("tc")
int direction(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 answer = UNKNOWN, *side;

	if (skb->len == 14 + sizeof(tuple.ipv4)) {
		if (bpf_skb_load_bytes(skb, 14, &tuple.ipv4, sizeof(tuple.ipv4)))
			return UNKNOWN;
		sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		if (bpf_skb_load_bytes(skb, 14, &tuple.ipv6, sizeof(tuple.ipv6)))
			return UNKNOWN;
		sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return UNKNOWN;
	if (sk->state != BPF_TCP_LISTEN) {
		side = bpf_sk_storage_get(&directions, sk, 0, 0);
		if (side)
			answer = *side;
	}
	bpf_sk_release(sk);
	return answer;
}

char _license[] SEC("license") = "GPL";
